//! Runs the real binary and keeps what it printed and how it ended.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Standard output as one JSON object.
    pub(crate) fn object(&self) -> Value {
        let objects = self.objects();
        assert_eq!(objects.len(), 1, "{self:?}");
        objects.into_iter().next().unwrap()
    }

    /// Standard output as JSON lines.
    pub(crate) fn objects(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .collect()
    }

    /// The JSON error on standard error.
    pub(crate) fn error(&self) -> Value {
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.stderr).unwrap()
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// The error in its form for people, which every failure must have.
    #[track_caller]
    pub(crate) fn expect_failure(self, code: i32, sentence: &str) -> Self {
        let ended = self.expect(code);
        let mut lines = ended.stderr.lines();
        assert!(lines.any(|line| line.starts_with("error: ") && line.contains(sentence)), "{ended:?}");
        assert!(lines.any(|line| line.starts_with("next: ") && line.len() > 10), "{ended:?}");
        ended
    }
}

/// The command with a clean environment. Its time limit turns a test that would hang into one that fails.
pub(crate) fn command(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synctl"));
    command.env_clear().env("SYNESIS_SOCKET", socket).stdin(Stdio::null());
    if !arguments.iter().any(|argument| argument.starts_with("--timeout")) {
        command.arg("--timeout=20s");
    }
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn synctl(socket: &Path, arguments: &[&str]) -> Ended {
    ended(command(socket, arguments))
}

pub(crate) fn ended(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs it with `input` on standard input.
pub(crate) fn synctl_with_input(socket: &Path, arguments: &[&str], input: &[u8]) -> Ended {
    let mut running = Running::start(command(socket, arguments).stdin(Stdio::piped()));
    let mut stdin = running.child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // Written beside the reading: both pipes are smaller than what some tests send. A command that
        // stops early closes the pipe, which is no error of the test.
        scope.spawn(move || {
            let _ = stdin.write_all(input);
        });
        running.finish()
    })
}

/// A run that the test accompanies.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        Self { child, stdout }
    }

    /// Waits for exactly these bytes on standard output.
    #[track_caller]
    pub(crate) fn expect_output(&mut self, expected: &str) {
        let mut bytes = vec![0; expected.len()];
        self.stdout.as_mut().unwrap().read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// Waits for its end; what was read before is not in the result.
    pub(crate) fn finish(&mut self) -> Ended {
        let mut stdout = String::new();
        if let Some(reader) = self.stdout.as_mut() {
            reader.read_to_string(&mut stdout).unwrap();
        }
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Ended { code, stdout, stderr }
    }
}

/// The value at a path like `tunnel.rtt_ms`; the key must be there, even when its value is null.
#[track_caller]
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, key| {
        value.as_object().and_then(|object| object.get(key)).unwrap_or_else(|| panic!("no {path} in {value}"))
    })
}
