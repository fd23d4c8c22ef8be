//! A process of `synesis-load`: started with its settings, told what to do line by line, gone when it is dropped.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::binaries::binary;

#[derive(Debug)]
pub(super) struct Load {
    role: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
    first: Value,
}

impl Load {
    /// Starts it and waits for its first line.
    ///
    /// # Panics
    /// When it fails; it has said why on standard error.
    pub(super) fn start(role: &str, settings: &Value) -> Self {
        let mut child = Command::new(binary("synesis-load"))
            .args([role, &settings.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("synesis-load starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let stdin = child.stdin.take();
        let mut load = Self { role: role.to_owned(), child, stdin, lines, first: Value::Null };
        load.first = load.hear();
        load
    }

    /// What it said when it was ready.
    pub(super) fn first(&self) -> &Value {
        &self.first
    }

    /// The address it listens on.
    pub(super) fn address(&self) -> &str {
        self.first["address"].as_str().expect("a server says where it listens")
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives a command; its answer is still to be heard.
    pub(super) fn tell(&mut self, command: &Value) {
        let stdin = self.stdin.as_mut().expect("open until dropped");
        writeln!(stdin, "{command}").unwrap_or_else(|error| panic!("synesis-load {}: {error}", self.role));
    }

    /// The next answer.
    pub(super) fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("UTF-8");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("synesis-load {} failed: {line:?}", self.role))
    }

    /// Gives a command and waits for its answer.
    pub(super) fn ask(&mut self, command: &Value) -> Value {
        self.tell(command);
        self.hear()
    }

    /// A number in the answer to a command.
    pub(super) fn number(&mut self, command: &Value, name: &str) -> f64 {
        let answer = self.ask(command);
        answer[name].as_f64().unwrap_or_else(|| panic!("synesis-load {}: no {name} in {answer}", self.role))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // The end of its input is its order to leave; one that hangs is killed.
        drop(self.stdin.take());
        for _ in 0..200 {
            match self.child.try_wait() {
                Ok(None) => std::thread::park_timeout(std::time::Duration::from_millis(25)),
                _ => return,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
