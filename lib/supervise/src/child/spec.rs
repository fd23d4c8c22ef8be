//! What to run and with which environment: nothing of ours reaches the child but what is named here.

use std::{ffi::OsString, io, os::fd::OwnedFd, path::PathBuf, process::Stdio};

use tokio::process::Command;

/// Variables a dynamically linked program may need to run at all; passed on when set.
const INHERITED: [&str; 3] = ["PATH", "LANG", "LD_LIBRARY_PATH"];

/// A program, its arguments, and its whole environment beside `PATH`, `LANG` and `LD_LIBRARY_PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildSpec {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Its environment. Not for secrets: it can be read from outside the process.
    pub env: Vec<(OsString, OsString)>,
}

impl ChildSpec {
    /// `program` without arguments.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), args: Vec::new(), env: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// The command with `end` as its standard input. Standard output goes to our standard error: the child's answers
    /// travel over the socket, whatever it prints is a log line.
    pub(super) fn command(&self, end: std::os::unix::net::UnixStream) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(INHERITED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(OwnedFd::from(end)))
            .stdout(Stdio::from(io::stderr()))
            .stderr(Stdio::inherit())
            // A group of its own: ^C in a terminal is for us, and we decide when the child leaves.
            .process_group(0)
            // Only for a runtime that goes down with the reaper still waiting; otherwise `ChildProcess` kills.
            .kill_on_drop(true);
        command
    }
}
