//! The refusals of adapters on their way to the gateway and back.

use synesis_mesh::kind::ErrorCode;
use synesis_proto::{Problem, reason};
use tonic::Code;

use super::{gateway_said, not_opened};
use crate::ipc::status::store;
use crate::transfers::TransferError;

impl From<TransferError> for Problem {
    fn from(error: TransferError) -> Self {
        let message = error.to_string();
        let (code, reason, next_step) = match error {
            TransferError::Adapter(error) => return error.into(),
            TransferError::Enrolment(error) => return error.into(),
            TransferError::Tunnel(error) => return not_opened(&error),
            TransferError::Store(source) => return store(&source),
            TransferError::Ended(transfer) => {
                let failed = transfer.job.ending.as_ref().and_then(|ending| ending.problem());
                return failed.unwrap_or_else(|| {
                    Problem::new(Code::Aborted, reason::INTERRUPTED, message, "start it again")
                });
            }
            TransferError::Refused { code: Some(ErrorCode::TooLarge), message, .. } => {
                let next_step = "have adapters.max_bytes of the gateway raised";
                return Problem::new(Code::InvalidArgument, reason::ADAPTER_INVALID, message, next_step);
            }
            TransferError::Refused { code, message, next_step, retry_after } => {
                return Problem { retry_after, ..gateway_said(code, message, next_step) };
            }
            TransferError::Stream(_) | TransferError::Interrupted | TransferError::Silent => (
                Code::Unavailable,
                reason::INTERRUPTED,
                "try again when `synctl tunnel status` says up; what was moved is kept",
            ),
            TransferError::Protocol(_) => (
                Code::Internal,
                reason::GATEWAY_REFUSED,
                "update synesisd and the gateway to versions that belong together",
            ),
            TransferError::Mismatch => (
                Code::DataLoss,
                reason::DIGEST_MISMATCH,
                "try again; if that fails too, push it again where it is",
            ),
            TransferError::Changed => (
                Code::FailedPrecondition,
                reason::ADAPTER_NOT_FOUND,
                "import the adapter again, then push it",
            ),
            TransferError::OtherIdentity => {
                (Code::FailedPrecondition, reason::NOT_ENROLLED, "start it again under the new identity")
            }
            TransferError::TooMany(_) => {
                (Code::ResourceExhausted, reason::BUSY, "wait for some of them, or cancel them with --cancel")
            }
            TransferError::NoSuchTransfer { .. } => (
                Code::NotFound,
                reason::ADAPTER_NOT_FOUND,
                "synctl adapter list shows the transfers there are",
            ),
            TransferError::NotAtGateway(_) => (
                Code::NotFound,
                reason::ADAPTER_NOT_FOUND,
                "synctl adapter list --cloud shows what is there; synctl adapter push NAME brings one",
            ),
            TransferError::Cancelled => {
                (Code::Cancelled, reason::INTERRUPTED, "start it again if you want it")
            }
        };
        Problem::new(code, reason, message, next_step)
    }
}
