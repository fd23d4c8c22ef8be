//! `synctl`, run as a user would.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::binaries::binary;

/// `synctl` pointed at one daemon's socket.
#[derive(Debug, Clone)]
pub struct Ctl {
    socket: PathBuf,
}

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Fails the test, with everything that was printed, unless the exit code is `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Standard output as one JSON object per line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    /// The last JSON object printed.
    #[track_caller]
    pub fn json(&self) -> Value {
        self.json_lines().pop().unwrap_or_else(|| panic!("nothing printed; stderr:\n{}", self.stderr))
    }
}

impl Ctl {
    /// For the daemon listening on `socket`.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The command line `synctl --socket … ARGS`, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary("synctl"));
        command.arg("--socket").arg(&self.socket).args(args).env_remove("SYNESIS_SOCKET");
        command
    }

    /// Runs to the end.
    pub fn run(&self, args: &[&str]) -> Outcome {
        self.run_with_input(args, "")
    }

    /// Runs to the end with `input` on standard input.
    pub fn run_with_input(&self, args: &[&str], input: &str) -> Outcome {
        finish(self.command(args), input)
    }

    /// Runs with `--json`, expects exit code 0, returns the last object.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        self.run(&all).expect_code(0).json()
    }

    /// Starts a command and leaves it running, its output to be read line by line.
    pub fn stream(&self, args: &[&str]) -> Streaming {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("synctl starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Streaming { child, lines }
    }

    /// Blocks until `synctl status --watch` shows what `wanted` looks for.
    #[track_caller]
    pub fn wait_for_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut watch = self.stream(&["--json", "--timeout", "90s", "status", "--watch"]);
        let mut last = Value::Null;
        while let Some(status) = watch.next_json() {
            if wanted(&status) {
                return status;
            }
            last = status;
        }
        panic!("status never showed {what}; last: {last:#}; {}", watch.finish().stderr);
    }

    /// Blocks until the tunnel is up.
    #[track_caller]
    pub fn wait_for_tunnel(&self) -> Value {
        self.wait_for_status("a tunnel that is up", |status| status["tunnel"]["state"] == "up")
    }

    /// Blocks until the model can answer.
    #[track_caller]
    pub fn wait_for_model(&self) -> Value {
        self.wait_for_status("a model that is ready", |status| status["model"]["state"] == "ready")
    }
}

/// A command that is still running.
#[derive(Debug)]
pub struct Streaming {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Streaming {
    /// The next line of standard output, blocking; none at the end.
    pub fn next_line(&mut self) -> Option<String> {
        self.lines.next().and_then(Result::ok)
    }

    /// The next line as JSON.
    pub fn next_json(&mut self) -> Option<Value> {
        let line = self.next_line()?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads the rest and waits for the end.
    pub fn finish(&mut self) -> Outcome {
        let mut stdout = String::new();
        for line in self.lines.by_ref().map_while(Result::ok) {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        let mut stderr = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            let _ = pipe.read_to_string(&mut stderr);
        }
        let code = self.child.wait().ok().and_then(|status| status.code()).unwrap_or(-1);
        Outcome { code, stdout, stderr }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs any command to the end with `input` on standard input.
pub fn finish(mut command: Command, input: &str) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    // A command may end without reading its input, and may print before it has read it all.
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().expect("our child");
    let _ = writer.join();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
