//! Why an adapter was not moved.

use std::io;
use std::time::Duration;

use synesis_mesh::device::OpenError;
use synesis_mesh::frame::FrameError;
use synesis_mesh::kind::ErrorCode;
use synesis_proto::mesh::v1::Problem;

use super::Transfer;
use crate::adapters::AdapterError;
use crate::tunnel::EnrolmentError;

/// A transfer, or a question about the adapters at the gateway, that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The adapter on this device.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// This device has no identity to work with.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// The tunnel is not up.
    #[error("the tunnel is not up")]
    Tunnel(#[from] OpenError),
    /// The gateway refused.
    #[error("the gateway answered {}: {message}", .code.map_or("an unknown code", ErrorCode::as_str))]
    Refused {
        /// Why, if this build knows the code.
        code: Option<ErrorCode>,
        /// The gateway's sentence.
        message: String,
        /// The gateway's advice; may be empty.
        next_step: String,
        /// When to come back, if the gateway said.
        retry_after: Option<Duration>,
    },
    /// The line broke.
    #[error("the tunnel was lost on the way")]
    Stream(#[source] FrameError),
    /// The stream ended before it was complete.
    #[error("the stream ended before everything was said")]
    Interrupted,
    /// Nothing was said, or taken, for too long.
    #[error("the gateway fell silent")]
    Silent,
    /// The gateway broke the protocol.
    #[error("the gateway broke the protocol: {0}")]
    Protocol(&'static str),
    /// What came does not have the digest that the gateway announced.
    #[error("the bytes that came are not those of the adapter")]
    Mismatch,
    /// The file on this device is not what it was.
    #[error("the file of the adapter is gone, or not what it was when the push began")]
    Changed,
    /// It was begun under another identity.
    #[error("this device has another identity than when the transfer began")]
    OtherIdentity,
    /// Enough of them wait.
    #[error("{0} transfers wait already")]
    TooMany(usize),
    /// There is none to cancel.
    #[error("no {direction} of \"{name}\" is waiting or under way")]
    NoSuchTransfer {
        /// Of the adapter.
        name: String,
        /// push or pull.
        direction: &'static str,
    },
    /// The account has no such adapter.
    #[error("this account has no adapter \"{0}\" at the gateway")]
    NotAtGateway(String),
    /// It failed earlier, and said why.
    #[error("the {} of \"{}\" failed", .0.job.direction.as_str(), .0.job.name)]
    Ended(Box<Transfer>),
    /// Somebody ended it.
    #[error("the transfer was cancelled")]
    Cancelled,
    /// The file system refused.
    #[error("the files of transfers cannot be written")]
    Store(#[source] io::Error),
}

impl TransferError {
    pub(super) fn from_problem(problem: Problem) -> Self {
        Self::Refused {
            code: ErrorCode::from_number(problem.code.into()),
            message: problem.message,
            next_step: problem.next_step,
            retry_after: Some(problem.retry_after_ms).filter(|ms| *ms > 0).map(Duration::from_millis),
        }
    }

    /// Whether the same transfer may succeed later without anybody changing anything.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            // The other stream of this device, from a connection that is gone or going, was taken for the newer one.
            Self::Refused { code: Some(ErrorCode::Cancelled), .. } => true,
            Self::Refused { code, .. } => code.is_some_and(ErrorCode::retryable),
            Self::Tunnel(_) | Self::Stream(_) | Self::Interrupted | Self::Silent => true,
            _ => false,
        }
    }

    /// Whether one more try from the beginning makes sense: bytes were damaged somewhere.
    pub(super) fn is_mismatch(&self) -> bool {
        matches!(self, Self::Mismatch | Self::Refused { code: Some(ErrorCode::DigestMismatch), .. })
    }

    /// Not before this time.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<FrameError> for TransferError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Refused(problem) => Self::from_problem(problem),
            FrameError::TooLarge { .. } => Self::Protocol("a frame is too large"),
            FrameError::Malformed(_) => Self::Protocol("a frame does not decode"),
            other => Self::Stream(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: ErrorCode) -> TransferError {
        TransferError::from_problem(code.problem("no", ""))
    }

    #[test]
    fn what_passes_by_itself_is_tried_again_and_what_does_not_is_not() {
        for code in
            [ErrorCode::Draining, ErrorCode::RateLimited, ErrorCode::StoreFailed, ErrorCode::Cancelled]
        {
            assert!(refused(code).is_transient(), "{code}");
        }
        for code in
            [ErrorCode::AdapterQuota, ErrorCode::TooLarge, ErrorCode::AdapterUnknown, ErrorCode::BadFrame]
        {
            assert!(!refused(code).is_transient(), "{code}");
        }
        assert!(TransferError::Interrupted.is_transient() && TransferError::Silent.is_transient());
        assert!(!TransferError::Mismatch.is_transient() && TransferError::Mismatch.is_mismatch());
        assert!(refused(ErrorCode::DigestMismatch).is_mismatch());
    }
}
