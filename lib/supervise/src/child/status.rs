//! How a child ended, as a value that can be kept and shown.

use std::{fmt, io, os::unix::process::ExitStatusExt};

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code; 0 is success.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
    /// The operating system did not tell.
    Unknown(String),
}

impl ExitStatus {
    /// It exited with code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::Code(0)
    }
}

impl From<io::Result<std::process::ExitStatus>> for ExitStatus {
    fn from(waited: io::Result<std::process::ExitStatus>) -> Self {
        match waited.map(|status| (status.code(), status.signal())) {
            Ok((Some(code), _)) => Self::Code(code),
            Ok((None, Some(signal))) => Self::Signal(signal),
            Ok((None, None)) => Self::Unknown("neither exited nor killed".to_owned()),
            Err(error) => Self::Unknown(error.to_string()),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Unknown(why) => write!(f, "ended in an unknown way ({why})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_reads_as_a_reason() {
        let waited = |raw| ExitStatus::from(Ok(std::process::ExitStatus::from_raw(raw)));
        assert_eq!(waited(3 << 8).to_string(), "exit code 3");
        assert_eq!(waited(9).to_string(), "killed by signal 9");
        assert!(waited(0).is_success());
        assert!(!waited(9).is_success());
        let stopped = waited(0x137f);
        assert_eq!(stopped.to_string(), "ended in an unknown way (neither exited nor killed)");
        let lost = ExitStatus::from(Err(io::Error::other("no child")));
        assert_eq!(lost.to_string(), "ended in an unknown way (no child)");
    }
}
