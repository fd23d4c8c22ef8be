//! The one place where errors become what a client sees: a code, a stable reason, a sentence and the next step.
//! Internal text is logged here and never sent.

mod cloud;
mod models;

use std::error::Error;
use std::io;

use synesis_proto::{Problem, reason};
use tonic::{Code, Status};

use super::admission::GateError;
use crate::adapters::{AdapterError, AdapterName, Full};
use crate::log::chain;
use crate::model::ModelError;

/// The status of a failed call. Logs what the client is not told.
pub(crate) fn refuse<E: Error + Into<Problem>>(error: E) -> Status {
    problem(error).into()
}

/// What a client is told about a failed call. Logs what it is not told.
pub(crate) fn problem<E: Error + Into<Problem>>(error: E) -> Problem {
    let text = chain(&error);
    let problem: Problem = error.into();
    match problem.code {
        Code::Internal => tracing::error!(error = text, "a call failed: this is a defect"),
        _ => tracing::debug!(error = text, reason = problem.reason, "a call failed"),
    }
    problem
}

/// The status of a call that failed by a defect of ours.
pub(crate) fn defect(error: impl Error) -> Status {
    tracing::error!(error = chain(&error), "a call failed: this is a defect");
    internal().into()
}

/// A request that makes no sense, said by a handler.
pub(crate) fn bad_request(message: &str, next_step: &str) -> Status {
    Problem::new(Code::InvalidArgument, reason::BAD_REQUEST, message, next_step).into()
}

/// The daemon is on its way out, or a part of it is not up yet.
pub(crate) fn not_now(message: &str) -> Status {
    Problem::new(Code::Unavailable, reason::STOPPING, message, "try again in a moment").into()
}

fn internal() -> Problem {
    Problem::new(
        Code::Internal,
        reason::INTERNAL,
        "synesisd could not do this because of a defect",
        "look for the request id in its log (journalctl -u synesisd), and report it",
    )
}

impl From<GateError> for Problem {
    fn from(error: GateError) -> Self {
        match error {
            GateError::Unidentified => Problem::new(
                Code::Unauthenticated,
                reason::FORBIDDEN,
                "the caller is unknown",
                "connect through the control socket",
            ),
            GateError::UnknownMethod => Problem::new(
                Code::PermissionDenied,
                reason::FORBIDDEN,
                "there is no such method",
                "use a synctl of the same version as synesisd",
            ),
            GateError::Forbidden { role, least } => Problem::new(
                Code::PermissionDenied,
                reason::FORBIDDEN,
                format!("this needs the {least} role and you are a {role}"),
                match least {
                    super::Role::Admin => "run it as root, or have your uid added to ipc.admin_uids",
                    _ => "have your user added to the group synesis, and log in again",
                },
            ),
            GateError::TooOften { wait } => Problem::new(
                Code::ResourceExhausted,
                reason::RATE_LIMITED,
                "too many requests from this user",
                format!("wait {:.1} s, or raise ipc.requests_per_minute", wait.as_secs_f64()),
            )
            .retry_after(wait),
            GateError::TooManyOfOne => Problem::new(
                Code::ResourceExhausted,
                reason::BUSY,
                "too many requests of this user are in progress",
                "end some of them, or try again in a moment",
            ),
            GateError::TooMany => Problem::new(
                Code::ResourceExhausted,
                reason::BUSY,
                "too many requests are in progress",
                "try again in a moment",
            ),
        }
    }
}

impl From<ModelError> for Problem {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::NoModel => Problem::new(
                Code::FailedPrecondition,
                reason::NO_MODEL,
                "no local model is configured",
                "set model.path to a GGUF file and restart synesisd",
            ),
            ModelError::NotReady => Problem::new(
                Code::Unavailable,
                reason::MODEL_NOT_READY,
                "the model is not ready yet",
                "try again in a moment; synctl status says how it is",
            ),
            ModelError::Failed { reason, next_step } => {
                Problem::new(Code::FailedPrecondition, reason::MODEL_INVALID, reason, next_step)
            }
            ModelError::Crashed => Problem::new(
                Code::Aborted,
                reason::MODEL_CRASHED,
                "the model process ended while it was working on this",
                "try again: it is being restarted",
            ),
            ModelError::Replaced => Problem::new(
                Code::Aborted,
                reason::MODEL_NOT_READY,
                "the model was replaced before this answer was complete",
                "ask again: the new model answers; model.drain_s is the time that answers have",
            ),
            ModelError::Quarantined(why) => Problem::new(
                Code::FailedPrecondition,
                reason::ADAPTER_INVALID,
                format!("the adapter is not loaded: {why}"),
                "swap to it to have it tried again, or remove it",
            ),
            ModelError::TimedOut => Problem::new(
                Code::DeadlineExceeded,
                reason::MODEL_NOT_READY,
                "the model process did not answer in time",
                "try again in a moment; synctl status says how it is",
            ),
            ModelError::Refused(problem) => problem,
            ModelError::Protocol(_) => internal(),
        }
    }
}

impl From<AdapterError> for Problem {
    fn from(error: AdapterError) -> Self {
        let message = error.to_string();
        let (code, reason, next_step) = match error {
            AdapterError::Model(error) => return error.into(),
            AdapterError::Store(source) => return store(&source),
            AdapterError::Name(_) => (
                Code::InvalidArgument,
                reason::BAD_REQUEST,
                "use 1 to 64 lower case letters, digits, dots, dashes and underscores, beginning with a letter or digit; \
                 \"none\" is the base model",
            ),
            AdapterError::NotFound(_) => {
                (Code::NotFound, reason::ADAPTER_NOT_FOUND, "synctl adapter list shows what there is")
            }
            AdapterError::NeedsModel { cause } => {
                let Problem { code, reason, next_step, .. } = cause.into();
                return Problem::new(code, reason, message, next_step);
            }
            AdapterError::Full(full) => return adapters_full(&full),
            AdapterError::Empty(_) => (
                Code::InvalidArgument,
                reason::ADAPTER_INVALID,
                "import a GGUF adapter file, or a PEFT folder with adapter_config.json and adapter_model.safetensors",
            ),
            AdapterError::Parts(_) => (
                Code::InvalidArgument,
                reason::BAD_REQUEST,
                "send a GGUF file, or adapter_config.json and then adapter_model.safetensors",
            ),
            AdapterError::Unusable { .. } => (
                Code::FailedPrecondition,
                reason::ADAPTER_INVALID,
                "load the model it was made for (synctl model load), or use another adapter",
            ),
            AdapterError::TooLarge { .. } => (
                Code::InvalidArgument,
                reason::ADAPTER_INVALID,
                "check the file, or raise adapters.max_bytes",
            ),
            AdapterError::Interrupted => (Code::Cancelled, reason::BAD_REQUEST, "import it again"),
            AdapterError::Exists(_) => {
                (Code::AlreadyExists, reason::ADAPTER_EXISTS, "use another name, or remove the old one first")
            }
            AdapterError::InUse(_) => (
                Code::FailedPrecondition,
                reason::ADAPTER_IN_USE,
                "swap to another adapter or switch adapters off, then remove it",
            ),
            AdapterError::GenerationChanged { .. } => {
                (Code::Aborted, reason::GENERATION_CHANGED, "look at the list again, then decide")
            }
            AdapterError::Unavailable => {
                (Code::Unavailable, reason::STOPPING, "try again in a moment; synctl status says how it is")
            }
        };
        Problem::new(code, reason, message, next_step)
    }
}

/// No room for one more adapter, with what would make room.
fn adapters_full(full: &Full) -> Problem {
    let names: Vec<&str> = full.removable.iter().map(AdapterName::as_str).collect();
    let next_step = match names.as_slice() {
        [] => "raise adapters.max_total_bytes, or import a smaller adapter".to_owned(),
        names => format!(
            "remove what was used least recently ({}) with synctl adapter rm, or raise adapters.max_total_bytes",
            names.join(", ")
        ),
    };
    Problem::new(Code::ResourceExhausted, reason::DISK_FULL, full.to_string(), next_step)
}

/// A file of the daemon's own cannot be read.
pub(crate) fn unreadable(what: &str, source: &io::Error) -> Status {
    tracing::error!(error = %source, "{what} cannot be read");
    let next_step = "check the disk below paths.state_dir; the log of synesisd has the details";
    Problem::new(Code::Unavailable, reason::STORE_FAILED, format!("{what} cannot be read"), next_step).into()
}

/// What the file system said, in words that help.
fn store(source: &io::Error) -> Problem {
    let (message, next_step) = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ("the disk is full", "free some space below paths.state_dir, then try again")
        }
        _ => (
            "the state folder cannot be written",
            "check paths.state_dir; the log of synesisd has the details",
        ),
    };
    tracing::error!(error = %source, "{message}");
    Problem::new(Code::Unavailable, reason::STORE_FAILED, message, next_step)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Role;
    use super::*;

    fn name() -> AdapterName {
        AdapterName::try_from("tone".to_owned()).unwrap()
    }

    #[test]
    fn every_error_has_a_reason_of_the_registry_a_sentence_and_a_next_step() {
        let refused = Problem::new(Code::InvalidArgument, reason::PROMPT_TOO_LONG, "too long", "shorten it");
        let problems: Vec<Problem> = vec![
            GateError::Unidentified.into(),
            GateError::UnknownMethod.into(),
            GateError::Forbidden { role: Role::Guest, least: Role::User }.into(),
            GateError::Forbidden { role: Role::User, least: Role::Admin }.into(),
            GateError::TooOften { wait: Duration::from_secs(1) }.into(),
            GateError::TooMany.into(),
            GateError::TooManyOfOne.into(),
            ModelError::NoModel.into(),
            ModelError::NotReady.into(),
            ModelError::Failed { reason: "it is cut short".into(), next_step: "fetch it again".into() }
                .into(),
            ModelError::Crashed.into(),
            ModelError::Replaced.into(),
            ModelError::Quarantined("loading it ended the model process 2 times in a row".into()).into(),
            ModelError::TimedOut.into(),
            ModelError::Refused(refused).into(),
            ModelError::Protocol("/secret/path".into()).into(),
            AdapterError::Name(AdapterName::try_from("A".to_owned()).unwrap_err()).into(),
            AdapterError::NotFound(name()).into(),
            AdapterError::Empty("the adapter file").into(),
            AdapterError::TooLarge { what: "the adapter file", limit: 1 }.into(),
            AdapterError::Parts("out of order").into(),
            AdapterError::NeedsModel { cause: ModelError::NoModel }.into(),
            AdapterError::Full(Full { needed: 2, used: 1, limit: 2, removable: vec![name()] }).into(),
            AdapterError::Full(Full { needed: 3, used: 1, limit: 2, removable: vec![] }).into(),
            AdapterError::Unusable { name: name(), why: "another model".into() }.into(),
            AdapterError::Interrupted.into(),
            AdapterError::Exists(name()).into(),
            AdapterError::InUse(name()).into(),
            AdapterError::GenerationChanged { expected: 1, current: 2 }.into(),
            AdapterError::Model(ModelError::Crashed).into(),
            AdapterError::Store(io::ErrorKind::StorageFull.into()).into(),
            AdapterError::Store(io::Error::other("/secret/path")).into(),
            AdapterError::Unavailable.into(),
        ];
        for problem in problems {
            assert!(reason::ALL.contains(&problem.reason.as_str()), "{problem:?}");
            assert!(!problem.message.is_empty() && !problem.message.ends_with('.'), "{problem:?}");
            assert!(!problem.next_step.is_empty(), "{problem:?}");
            assert_ne!(problem.code, Code::Ok);
            assert!(!problem.to_string().contains("/secret/path"), "internal text is not sent: {problem:?}");
        }
    }
}
