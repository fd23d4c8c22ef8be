//! How an escalation can fail.

use std::time::Duration;

use synesis_ledger::NanoUsd;
use synesis_mesh::device::OpenError;
use synesis_mesh::frame::FrameError;
use synesis_mesh::kind::ErrorCode;
use synesis_proto::mesh::v1::Problem;

use crate::ask::SinkError;
use crate::budget::LimitReached;
use crate::journal::JournalError;

/// Why an escalated prompt has no (whole) answer.
#[derive(Debug, thiserror::Error)]
pub enum EscalationError {
    /// This device has no identity.
    #[error("this device is not enrolled")]
    NotEnrolled,
    /// The tunnel is not up.
    #[error("the tunnel is not up")]
    Tunnel(#[from] OpenError),
    /// The device's daily limit.
    #[error(transparent)]
    Limit(#[from] LimitReached),
    /// The journal could not take the intent or the outcome.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The gateway refused or gave up.
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
    /// The worst case is over what the device's daily limit leaves.
    #[error("the answer could cost more than the {left} that the daily limit leaves")]
    OverLimit {
        /// What was left.
        left: NanoUsd,
    },
    /// The redacted conversation does not fit through the tunnel. Nothing was sent.
    #[error("the redacted conversation takes {bytes} bytes, and {limit} fit through the tunnel")]
    TooLong {
        /// The request.
        bytes: usize,
        /// The most.
        limit: usize,
    },
    /// The tunnel was lost in the middle.
    #[error("the tunnel was lost in the middle of the answer")]
    Interrupted,
    /// The stream failed.
    #[error("the tunnel was lost in the middle of the answer")]
    Stream(#[source] FrameError),
    /// The gateway did not say anything for too long.
    #[error("the gateway fell silent in the middle of the answer")]
    Silent,
    /// The gateway broke the protocol.
    #[error("the gateway broke the protocol: {0}")]
    Protocol(&'static str),
    /// It took longer than anybody waits.
    #[error("the answer took longer than {} minutes", .0.as_secs() / 60)]
    TooSlow(Duration),
    /// Nobody takes the answer any more.
    #[error(transparent)]
    Sink(SinkError),
}

impl EscalationError {
    /// A refusal before anything was held, of a request that could cost `most`.
    pub(super) fn refused(problem: Problem, most: Option<NanoUsd>) -> Self {
        match (ErrorCode::from_number(problem.code.into()), most) {
            (Some(ErrorCode::OverMaxCharge), Some(left)) => Self::OverLimit { left },
            _ => Self::from_problem(problem),
        }
    }

    pub(crate) fn from_problem(problem: Problem) -> Self {
        Self::Refused {
            code: ErrorCode::from_number(problem.code.into()),
            message: problem.message,
            next_step: problem.next_step,
            retry_after: Some(problem.retry_after_ms).filter(|ms| *ms > 0).map(Duration::from_millis),
        }
    }
}

impl From<SinkError> for EscalationError {
    fn from(error: SinkError) -> Self {
        match error {
            // What the gateway may say at most was in the request.
            SinkError::TooLong => Self::Protocol("the answer is longer than 512 KiB"),
            SinkError::CallerGone | SinkError::NotRead => Self::Sink(error),
        }
    }
}

impl From<FrameError> for EscalationError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Refused(problem) => Self::from_problem(problem),
            FrameError::TooLarge { .. } => Self::Protocol("a frame is too large"),
            FrameError::Malformed(_) => Self::Protocol("a frame does not decode"),
            other => Self::Stream(other),
        }
    }
}
