//! JSON in, JSON out, a line each.

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;

/// What comes in on standard input.
pub(crate) struct Lines(mpsc::Receiver<Value>);

impl Lines {
    /// Reads on a thread of its own: there is no asynchronous read of a pipe that a runtime could drop.
    pub(crate) fn of_stdin() -> Self {
        let (lines_in, lines) = mpsc::channel(8);
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if lines_in.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Self(lines)
    }

    /// The next one, or `None` when the bench has let go of us.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        self.0.recv().await
    }
}

/// One line out.
pub(crate) fn say(value: &Value) {
    println!("{value}");
}

/// Settings or a command as what they should be.
pub(crate) fn parse<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}
