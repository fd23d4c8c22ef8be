//! The model process locks itself in before it parses a byte that somebody else wrote: no new privileges, no
//! core dumps, first to go when memory is short, only the files it was given, no sockets, no programs.
//!
//! Each part that the kernel lacks is told in the log; `--sandbox require` refuses to go on without the two
//! that count, files and system calls. Nothing here needs privileges.

mod files;
mod process;
mod syscalls;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use process::limit_memory;

/// What the process may do from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// How much of it must succeed.
    pub mode: Mode,
    /// Files and folders with models and adapters. A file stands for itself, not for what is renamed over it:
    /// name the folder for that. None at all leaves the file system open.
    pub read: Vec<PathBuf>,
}

/// How a part that the kernel lacks is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is left out, with a warning.
    #[default]
    Auto,
    /// The process does not start.
    Require,
    /// Nothing is locked, for debuggers.
    Off,
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "auto" => Ok(Self::Auto),
            "require" => Ok(Self::Require),
            "off" => Ok(Self::Off),
            _ => Err(UnknownMode),
        }
    }
}

/// Not one of the three.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a sandbox is auto, require or off")]
pub struct UnknownMode;

/// Why a sandbox that was required is not there.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Files.
    #[error("files cannot be locked away: {0}; use a kernel with landlock, or --sandbox auto")]
    Files(#[source] files::FilesError),
    /// System calls.
    #[error("system calls cannot be filtered: {0}; use a kernel with seccomp, or --sandbox auto")]
    Syscalls(#[source] syscalls::SyscallsError),
}

/// What is locked, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Reading of other files, and all writing.
    pub files: Lock,
    /// Sockets, programs, other processes, the kernel's own doors.
    pub syscalls: Lock,
}

/// State of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// As meant.
    Full,
    /// As far as this kernel's version of it goes.
    Partial,
    /// Not at all.
    None,
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::None => "none",
        })
    }
}

/// Locks the calling thread, and every thread it starts from now on, for the life of the process: call it before
/// there are others.
///
/// # Errors
/// When the policy requires what the kernel does not do.
pub fn enter(policy: &Policy) -> Result<Report, SandboxError> {
    if policy.mode == Mode::Off {
        tracing::warn!("the sandbox is off");
        return Ok(Report { files: Lock::None, syscalls: Lock::None });
    }
    process::prepare();
    let files = settle(policy.mode, files::lock(&policy.read).map_err(SandboxError::Files))?;
    // Last, as it forbids what the others need.
    let syscalls = settle(policy.mode, syscalls::lock().map_err(SandboxError::Syscalls))?;
    tracing::info!(%files, %syscalls, readable = policy.read.len(), "sandbox");
    Ok(Report { files, syscalls })
}

fn settle(mode: Mode, outcome: Result<Lock, SandboxError>) -> Result<Lock, SandboxError> {
    match outcome {
        Err(error) if mode != Mode::Require => {
            tracing::warn!(%error, "a part of the sandbox is missing");
            Ok(Lock::None)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_names_and_nothing_else_is_one() {
        assert_eq!("auto".parse(), Ok(Mode::Auto));
        assert_eq!("require".parse(), Ok(Mode::Require));
        assert_eq!("off".parse(), Ok(Mode::Off));
        assert_eq!("on".parse::<Mode>(), Err(UnknownMode));
    }

    #[test]
    fn off_locks_nothing() {
        let report = enter(&Policy { mode: Mode::Off, read: Vec::new() }).unwrap();
        assert_eq!(report, Report { files: Lock::None, syscalls: Lock::None });
    }
}
