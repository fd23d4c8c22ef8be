//! Runs a program of somebody else's and ends it with us: it cannot outlive a bench that was killed.

use std::process::Stdio;

use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;

use crate::lines::{Lines, say};

#[derive(Deserialize)]
pub(crate) struct Settings {
    program: String,
    arguments: Vec<String>,
    #[serde(default)]
    environment: Vec<(String, String)>,
    log: std::path::PathBuf,
}

pub(crate) async fn run(settings: Settings) {
    let log = std::fs::File::create(&settings.log).expect("a log");
    let child = Command::new(&settings.program)
        .args(&settings.arguments)
        .envs(settings.environment)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("dup"))
        .stderr(log)
        .kill_on_drop(true)
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{}: {error}", settings.program));
    say(&json!({ "pid": child.id() }));
    let mut input = Lines::of_stdin();
    tokio::select! {
        // Killed, perhaps: who did that knows, and who did not finds nobody.
        _ = child.wait() => return,
        () = async { while input.next().await.is_some() {} } => {}
    }
    let _ = child.kill().await;
}
