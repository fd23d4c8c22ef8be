//! How a command of this binary fails: an exit code from the contract, what happened, and the next step.

use std::fmt;
use std::process::ExitCode;

/// The exit codes of `synesis-gateway`, as the contract fixes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It was tried and did not work.
    Failed = 1,
    /// No gateway answers on the admin socket.
    Unreachable = 3,
    /// The account or device does not exist.
    NotFound = 9,
    /// The command line makes no sense.
    Usage = 64,
    /// The configuration is bad; systemd does not restart-loop on it.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What a command tells the user when it fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What happened, without a period.
    pub(crate) what: String,
    /// What to do about it, without a period.
    pub(crate) next_step: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self { exit, what: what.into(), next_step: next_step.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "synesis-gateway: {}", self.what)?;
        if !self.next_step.is_empty() {
            write!(f, "\n  next step: {}", self.next_step)?;
        }
        Ok(())
    }
}

/// An error with all its causes in one line: `the outer: the cause: its cause`.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_happened_and_then_the_next_step() {
        let failure = Failure::new(Exit::NotFound, "there is no account \"acme\"", "create it first");
        assert_eq!(
            failure.to_string(),
            "synesis-gateway: there is no account \"acme\"\n  next step: create it first"
        );
    }

    #[test]
    fn a_chain_names_every_cause_once() {
        let inner = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let outer = std::io::Error::other(inner);
        assert_eq!(chain(&outer), "no such file");
    }
}
