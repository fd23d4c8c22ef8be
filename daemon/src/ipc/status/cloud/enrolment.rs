//! The refusals of a change of identity.

use synesis_mesh::device::EnrollError;
use synesis_mesh::kind::ErrorCode;
use synesis_proto::{Problem, reason};
use tonic::Code;

use super::plain;
use crate::ipc::status::internal;
use crate::tunnel::EnrolmentError;

impl From<EnrolmentError> for Problem {
    fn from(error: EnrolmentError) -> Self {
        let message = error.to_string();
        match error {
            EnrolmentError::AlreadyEnrolled(_) => Problem::new(
                Code::AlreadyExists,
                reason::ALREADY_ENROLLED,
                message,
                "run `synctl unenroll` first, if you mean to enrol it anew",
            ),
            EnrolmentError::NotEnrolled => Problem::new(
                Code::FailedPrecondition,
                reason::NOT_ENROLLED,
                "this device is not enrolled with a gateway",
                "run `synctl enroll --gateway HOST:PORT --ca FILE --token-file FILE`",
            ),
            EnrolmentError::Unreadable(damage) => {
                Problem::new(Code::FailedPrecondition, reason::STORE_FAILED, damage.reason, damage.next_step)
            }
            EnrolmentError::ReceiptsOpen(_) => Problem::new(
                Code::FailedPrecondition,
                reason::BUSY,
                message,
                "wait until they are settled (synctl status); if the gateway is gone for good: synctl unenroll --force",
            ),
            EnrolmentError::Enroll(error) => not_let_in(error),
            EnrolmentError::Journal(error) => error.into(),
            EnrolmentError::Closing => Problem::new(
                Code::Unavailable,
                reason::STOPPING,
                message,
                "try again when synesisd runs again",
            ),
            EnrolmentError::Store(_) => Problem::new(
                Code::Unavailable,
                reason::STORE_FAILED,
                message,
                "check the disk below paths.state_dir, then try again",
            ),
        }
    }
}

fn not_let_in(error: EnrollError) -> Problem {
    match error {
        EnrollError::CaUnreadable(_) => Problem::new(
            Code::InvalidArgument,
            reason::GATEWAY_UNTRUSTED,
            "the CA file holds no usable certificate",
            "pass the gateway's CA as --ca: the file pki/server-ca.pem of its folder",
        ),
        EnrollError::Unreachable { reason: message, next_step } => {
            Problem::new(Code::Unavailable, reason::GATEWAY_UNREACHABLE, message, next_step)
        }
        EnrollError::Untrusted { reason: message, next_step } => {
            Problem::new(Code::FailedPrecondition, reason::GATEWAY_UNTRUSTED, message, next_step)
        }
        EnrollError::Refused { code, message, next_step } => {
            let reason = match code {
                Some(ErrorCode::TokenExpired) => reason::TOKEN_EXPIRED,
                Some(ErrorCode::TokenInvalid | ErrorCode::TokenUsed) => reason::TOKEN_REFUSED,
                _ => reason::GATEWAY_REFUSED,
            };
            Problem::new(
                Code::FailedPrecondition,
                reason,
                plain(&message, "the gateway refused this device"),
                plain(&next_step, "ask the gateway's operator for a new token"),
            )
        }
        EnrollError::BadReply(_) => Problem::new(
            Code::Internal,
            reason::GATEWAY_REFUSED,
            "the gateway's answer does not make an identity",
            "update synesisd and the gateway to versions that belong together",
        ),
        EnrollError::Key(_) => internal(),
    }
}
