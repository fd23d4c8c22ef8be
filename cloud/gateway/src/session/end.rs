//! How an answer ended, and what the device is told of it.

use synesis_mesh::kind::ErrorCode;
use synesis_proto::mesh::v1;

use crate::answers::Cancel;
use crate::problem;
use crate::providers::{FinishReason, ProviderError};

/// How an answer ended.
pub(super) enum End {
    Finished(FinishReason),
    Cancelled(Cancel),
    Failed(ProviderError),
}

impl End {
    /// `AskFinished.reason`.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Finished(reason) => reason.as_str(),
            Self::Cancelled(_) => "cancelled",
            Self::Failed(_) => "provider_error",
        }
    }

    /// What the device is told when there is no answer to finish.
    pub(super) fn problem(&self) -> v1::Problem {
        match self {
            Self::Finished(_) => ErrorCode::Internal.problem("the answer is empty", "try again"),
            Self::Failed(error) => problem::of_provider(error),
            Self::Cancelled(Cancel::Deadline) => {
                ErrorCode::DeadlineExceeded.problem("nothing came in the time allowed", "allow more time")
            }
            Self::Cancelled(Cancel::SessionEnds) => {
                ErrorCode::Draining.problem("the gateway is stopping", "try again in a little while")
            }
            Self::Cancelled(Cancel::Protocol) => {
                ErrorCode::BadFrame.problem("that has no place in an answer", "update the device")
            }
            Self::Cancelled(Cancel::Asked | Cancel::Gone | Cancel::Abandoned) => {
                ErrorCode::Cancelled.problem("cancelled", "")
            }
        }
    }
}
