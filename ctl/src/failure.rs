//! Everything that can end a command without success. Each failure knows its sentence, its next step, its stable
//! reason and its exit code; no command prints errors or picks exit codes by itself.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use synesis_proto::{Problem, reason};
use thiserror::Error;
use tonic::{Code, Status};

use crate::exit::Exit;

const SEE_STATUS: &str = "run `synctl status`; the daemon's log has the details: journalctl -u synesisd";
const SAME_VERSIONS: &str = "check that synctl and synesisd are of the same version: synctl --version";

/// Why a command did not succeed.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The daemon said no.
    #[error("{}", .0.message)]
    Refused(Problem),
    /// Nothing listens on the socket.
    #[error("the daemon is not running: no one answers on {}", socket.display())]
    NotRunning { socket: PathBuf, source: io::Error },
    /// The socket exists, but this user may not open it.
    #[error("no permission to open {}", socket.display())]
    SocketDenied { socket: PathBuf, source: io::Error },
    /// The connection ended in the middle of a call.
    #[error("the daemon closed the connection before the answer was complete")]
    ConnectionLost(#[source] Box<Status>),
    /// `--timeout` (or its default) passed.
    #[error("no complete answer within {}", crate::deadline::display(*.0))]
    TimedOut(Duration),
    /// Ctrl-C.
    #[error("interrupted; the request was cancelled")]
    Interrupted,
    /// Arguments that clap cannot judge.
    #[error("{message}")]
    Usage { message: String, next_step: &'static str },
    /// A prompt of nothing but white space.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A file of the user that cannot be read.
    #[error("cannot read {what}: {source}")]
    Unreadable { what: String, source: io::Error },
    /// A folder or file that cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    /// Input that was read, but is not what it has to be.
    #[error("{what}")]
    BadInput { what: String, next_step: &'static str },
    /// A file or folder of the user that is no adapter.
    #[error("{what}")]
    NotImportable { what: String, next_step: String },
    /// The daemon answered something this version cannot make sense of.
    #[error("the daemon's answer makes no sense: {0}")]
    Protocol(String),
    /// A receipt that came with an answer, or was listed, cannot be read.
    #[error("{0}")]
    ReceiptDamaged(String),
    /// The receipts do not prove what they should.
    #[error("the receipts do not verify: {0}")]
    Unverified(String),
    /// Recorded decisions that are decided differently now, or cannot be decided.
    #[error("{0}")]
    NotReplayed(String),
    /// Whoever read standard output has left; nothing is wrong and nobody is there to be told.
    #[error("the reader of standard output left")]
    ReaderLeft,
    /// Standard output does not take the data.
    #[error("cannot write to standard output: {0}")]
    OutputFailed(#[source] io::Error),
    /// The process itself could not start its event loop.
    #[error("cannot start: {0}")]
    NoRuntime(#[source] io::Error),
}

impl Failure {
    /// What happened to a write to standard output.
    pub(crate) fn of_write(cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderLeft,
            _ => Self::OutputFailed(cause),
        }
    }

    /// The exit code of the contract.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Refused(problem) => Exit::of(problem),
            Self::NotRunning { .. } | Self::ConnectionLost(_) => Exit::Unreachable,
            Self::SocketDenied { .. } => Exit::Permission,
            Self::TimedOut(_) => Exit::TimedOut,
            Self::Interrupted => Exit::Interrupted,
            Self::Usage { .. } | Self::EmptyPrompt | Self::BadInput { .. } | Self::NotImportable { .. } => {
                Exit::Usage
            }
            Self::Unreadable { source, .. } | Self::Unwritable { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Exit::NotFound,
                io::ErrorKind::PermissionDenied => Exit::Permission,
                _ => Exit::Failed,
            },
            Self::ReaderLeft => Exit::Done,
            Self::Protocol(_)
            | Self::ReceiptDamaged(_)
            | Self::Unverified(_)
            | Self::NotReplayed(_)
            | Self::OutputFailed(_)
            | Self::NoRuntime(_) => Exit::Failed,
        }
    }

    /// Stable and machine-readable. The daemon's reasons pass through; the others are `synctl`'s own.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Refused(problem) if problem.reason.is_empty() => "REFUSED",
            Self::Refused(problem) => &problem.reason,
            Self::NotRunning { .. } => "DAEMON_UNREACHABLE",
            Self::SocketDenied { .. } => "SOCKET_DENIED",
            Self::ConnectionLost(_) => "CONNECTION_LOST",
            Self::TimedOut(_) => "TIMED_OUT",
            Self::Interrupted => "CANCELLED",
            Self::Usage { .. } => "USAGE",
            Self::EmptyPrompt => reason::EMPTY_PROMPT,
            Self::Unreadable { .. } => "FILE_UNREADABLE",
            Self::Unwritable { .. } => "FILE_UNWRITABLE",
            Self::BadInput { .. } | Self::NotImportable { .. } => "BAD_INPUT",
            Self::Protocol(_) => "PROTOCOL",
            Self::ReceiptDamaged(_) => "RECEIPT_DAMAGED",
            Self::Unverified(_) => "VERIFICATION_FAILED",
            Self::NotReplayed(_) => "REPLAY_DIFFERS",
            Self::ReaderLeft => "READER_LEFT",
            Self::OutputFailed(_) => "OUTPUT_FAILED",
            Self::NoRuntime(_) => "NO_RUNTIME",
        }
    }

    /// When to come back, for a refusal that passes by itself.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(problem) => problem.retry_after,
            _ => None,
        }
    }

    /// What to do now; never empty.
    pub(crate) fn next_step(&self) -> &str {
        match self {
            Self::Refused(problem) if !problem.next_step.is_empty() => &problem.next_step,
            Self::Refused(problem) if problem.code == Code::Unimplemented => SAME_VERSIONS,
            Self::Refused(_) => SEE_STATUS,
            Self::NotRunning { .. } => {
                "start it with `sudo systemctl start synesisd`, or name its socket with --socket PATH or SYNESIS_SOCKET"
            }
            Self::SocketDenied { .. } => {
                "join the group `synesis` (sudo usermod -aG synesis $USER), log in again and retry"
            }
            Self::ConnectionLost(_) => {
                "see why it stopped with `systemctl status synesisd`, then retry; nothing is charged twice"
            }
            Self::TimedOut(_) => "retry with a longer --timeout, or see `synctl status`",
            Self::Interrupted => "run the command again when you are ready",
            Self::Usage { next_step, .. } | Self::BadInput { next_step, .. } => next_step,
            Self::NotImportable { next_step, .. } => next_step,
            Self::EmptyPrompt => {
                "give the prompt as an argument, or on standard input: echo hello | synctl ask"
            }
            Self::Unreadable { .. } => "check the path and its permissions",
            Self::Unwritable { .. } => "choose a folder that you may write to",
            Self::Protocol(_) => SAME_VERSIONS,
            Self::ReceiptDamaged(_) => "run `synctl billing verify` to check all receipts",
            Self::Unverified(_) => {
                "keep the daemon's state folder as it is and show this receipt to whoever runs the gateway"
            }
            Self::NotReplayed(_) => {
                "replay with the synesisd that wrote the lines; if it is the same one, report this with the lines"
            }
            Self::ReaderLeft => "nothing",
            Self::OutputFailed(_) => "check that the disk has room and the output can be written to",
            Self::NoRuntime(_) => "check the limits of this session: ulimit -a",
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let problem = Problem::from_status(&status);
        // tonic attaches a cause only to what it found out by itself: the connection broke. What the daemon
        // sent has none.
        if problem.reason.is_empty() && status.source().is_some() {
            return Self::ConnectionLost(Box::new(status));
        }
        Self::Refused(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: io::ErrorKind) -> Failure {
        Failure::Unreadable { what: "the file".to_owned(), source: kind.into() }
    }

    fn one_of_each() -> Vec<(Failure, u8)> {
        let socket = PathBuf::from("/run/synesis/control.sock");
        let io = || io::Error::from(io::ErrorKind::Other);
        vec![
            (Failure::Refused(Problem::new(Code::Unavailable, reason::OFFLINE, "offline", "")), 6),
            (Failure::NotRunning { socket: socket.clone(), source: io() }, 3),
            (Failure::SocketDenied { socket, source: io() }, 5),
            (Failure::ConnectionLost(Box::new(Status::unknown("h2"))), 3),
            (Failure::TimedOut(Duration::from_secs(10)), 124),
            (Failure::Interrupted, 130),
            (Failure::Usage { message: "no".to_owned(), next_step: "do" }, 2),
            (Failure::EmptyPrompt, 2),
            (Failure::NotImportable { what: "no".to_owned(), next_step: "do".to_owned() }, 2),
            (file(io::ErrorKind::NotFound), 9),
            (file(io::ErrorKind::PermissionDenied), 5),
            (file(io::ErrorKind::IsADirectory), 1),
            (Failure::Unwritable { path: "/man".into(), source: io() }, 1),
            (Failure::BadInput { what: "line 3".to_owned(), next_step: "do" }, 2),
            (Failure::Protocol("what".to_owned()), 1),
            (Failure::ReceiptDamaged("what".to_owned()), 1),
            (Failure::Unverified("what".to_owned()), 1),
            (Failure::NotReplayed("what".to_owned()), 1),
            (Failure::ReaderLeft, 0),
            (Failure::OutputFailed(io()), 1),
            (Failure::NoRuntime(io()), 1),
        ]
    }

    #[test]
    fn each_failure_has_its_exit_code_a_sentence_a_reason_and_a_next_step() {
        for (failure, code) in one_of_each() {
            assert_eq!(failure.exit().code(), code, "{failure:?}");
            assert!(!failure.to_string().is_empty(), "{failure:?}");
            assert!(!failure.next_step().is_empty(), "{failure:?}");
            assert!(failure.reason().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{failure:?}");
        }
    }

    #[test]
    fn only_a_reader_who_left_ends_without_an_error() {
        for (failure, code) in one_of_each() {
            assert_eq!(code == 0, matches!(failure, Failure::ReaderLeft), "{failure:?}");
        }
    }

    #[test]
    fn the_own_reasons_are_not_the_daemons() {
        for (failure, _) in one_of_each() {
            let own = !matches!(failure, Failure::Refused(_) | Failure::EmptyPrompt);
            assert!(!own || !reason::ALL.contains(&failure.reason()), "{failure:?}");
        }
    }

    #[test]
    fn a_broken_pipe_is_a_reader_who_left_and_a_full_disk_is_a_failure() {
        let broken = Failure::of_write(io::ErrorKind::BrokenPipe.into());
        assert!(matches!(broken, Failure::ReaderLeft));
        let full = Failure::of_write(io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit().code(), 1);
    }

    #[test]
    fn the_daemons_own_next_step_is_kept() {
        let problem = Problem::new(Code::NotFound, reason::ADAPTER_NOT_FOUND, "no adapter x", "list them");
        let failure = Failure::from(Status::from(problem));
        assert_eq!((failure.next_step(), failure.exit().code()), ("list them", 9));
    }
}
