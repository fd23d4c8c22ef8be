//! Why an adapter is not taken in or handed out.

use std::io;

use synesis_mesh::kind::ErrorCode;
use synesis_proto::mesh::v1::Problem;

use crate::control_plane::ControlError;
use crate::problem;

/// After so long a full disk may have room again.
const FULL_RETRY_MS: u64 = 5 * 60 * 1000;

/// A refused or failed operation. Nothing was listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdapterStoreError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("{0}")]
    Bad(&'static str),
    #[error("the adapter is empty")]
    Empty,
    #[error("the adapter takes {size} bytes, and this gateway takes {limit} at most")]
    TooLarge { size: u64, limit: u64 },
    #[error("a chunk does not follow the bytes that are here")]
    Gap,
    #[error("the bytes that came do not have the digest that was announced")]
    Mismatch,
    #[error("the gateway's disk is full")]
    Full(#[source] io::Error),
    #[error("the gateway's files failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for AdapterStoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full(error)
            }
            _ => Self::Io(error),
        }
    }
}

impl AdapterStoreError {
    /// What the device is told. What the operator has to look at is logged here, once.
    pub(crate) fn problem(&self) -> Problem {
        let (code, next_step) = match self {
            Self::Control(error) => return problem::of_control(error),
            Self::Bad(_) | Self::Gap => {
                (ErrorCode::BadFrame, "update the device; what it sends is not understood")
            }
            Self::Empty => (ErrorCode::BadFrame, "push a GGUF adapter"),
            Self::TooLarge { .. } => (ErrorCode::TooLarge, "have adapters.max_bytes of the gateway raised"),
            Self::Mismatch => {
                (ErrorCode::DigestMismatch, "push it again; it is then sent from the beginning")
            }
            Self::Full(_) => {
                tracing::error!("the disk is full: adapters cannot be received");
                (ErrorCode::StoreFailed, "tell the gateway's operator; the push goes on by itself")
            }
            Self::Io(error) => {
                tracing::error!(%error, "the files of adapters failed");
                (ErrorCode::StoreFailed, "tell the gateway's operator; the push goes on by itself")
            }
        };
        let mut problem = code.problem(self.to_string(), next_step);
        if matches!(self, Self::Full(_)) {
            problem.retry_after_ms = FULL_RETRY_MS;
        }
        problem
    }
}
