//! The one place where an engine's error becomes what the other side sees: code, stable reason, sentence,
//! next step.

use std::io;

use synesis_proto::{Problem, reason};
use tonic::{Code, Status};

use crate::engine::EngineError;
use crate::gguf::GgufError;
use crate::prompt::{PromptError, TemplateError};

/// The status for `error`. Defects are logged here, where they leave the process.
pub(super) fn status(error: EngineError) -> Status {
    let problem = problem(&error);
    match problem.code {
        Code::Internal => tracing::error!(error = %error, "a request failed for a reason of ours"),
        _ => tracing::debug!(error = %error, reason = problem.reason, "a request was refused"),
    }
    problem.into()
}

fn problem(error: &EngineError) -> Problem {
    use EngineError as E;
    let (code, reason, next_step) = match error {
        E::BadRequest(_) => (Code::InvalidArgument, reason::BAD_REQUEST, "change the request"),
        E::NoModel => (Code::FailedPrecondition, reason::NO_MODEL, "load a model first"),
        E::ModelReplaced => (Code::Unavailable, reason::MODEL_NOT_READY, "ask again"),
        E::Prompt(error) => return prompt_problem(error),
        E::PromptTooLong { .. } => (
            Code::InvalidArgument,
            reason::PROMPT_TOO_LONG,
            "shorten the prompt, or load the model with a larger context",
        ),
        E::Busy { .. } => (Code::ResourceExhausted, reason::BUSY, "try again when an answer is finished"),
        E::ModelTooLarge(_) => {
            (Code::ResourceExhausted, reason::MODEL_TOO_LARGE, crate::fit::TooLarge::NEXT_STEP)
        }
        E::MemoryLimit(_) => (
            Code::FailedPrecondition,
            reason::BAD_REQUEST,
            "give a larger memory limit, or start the process with a higher one",
        ),
        E::Shape(_) => {
            (Code::InvalidArgument, reason::CONSTRAINT_INVALID, "correct the JSON schema or the grammar")
        }
        E::OutOfShape(_) => (
            Code::InvalidArgument,
            reason::CONSTRAINT_INVALID,
            "use a simpler JSON schema or grammar, or ask without one",
        ),
        E::NoEmbeddings => (
            Code::FailedPrecondition,
            reason::NO_EMBEDDINGS,
            "load a model that is made for embeddings, or set model.embeddings to \"mean\" or \"last\" to have them of any",
        ),
        E::WritesNothing => (Code::FailedPrecondition, reason::UNSUPPORTED, "load a model that writes text"),
        E::InputTooLong { .. } => (
            Code::InvalidArgument,
            reason::PROMPT_TOO_LONG,
            "cut the input into shorter ones, or load the model with a larger context",
        ),
        E::VectorsTooLarge(_) => (
            Code::ResourceExhausted,
            reason::MODEL_TOO_LARGE,
            "send shorter inputs, or load the model with a smaller context or fewer parallel sequences",
        ),
        E::ModelUnreadable(fault) => {
            (file_code(fault), reason::MODEL_INVALID, "check the path, or get the file again")
        }
        E::ModelFault(_) | E::ModelRefused(_) | E::ModelSilent | E::ModelNotFinite => {
            (Code::InvalidArgument, reason::MODEL_INVALID, "use another model file")
        }
        E::ModelTemplate(_) => (
            Code::InvalidArgument,
            reason::MODEL_INVALID,
            "give a chat template of your own, or use another model file",
        ),
        E::GivenTemplate(_) => (Code::InvalidArgument, reason::BAD_REQUEST, "correct the chat template"),
        E::AdapterUnreadable(fault) => {
            (file_code(fault), reason::ADAPTER_INVALID, "check the path, or get the file again")
        }
        E::AdapterFault(_) | E::AdapterRefused(_) | E::AdapterNotFinite => (
            Code::InvalidArgument,
            reason::ADAPTER_INVALID,
            "use an adapter that was trained for the loaded model",
        ),
        E::AdapterUnknown(_) => (Code::NotFound, reason::ADAPTER_NOT_FOUND, "load the adapter first"),
        E::TooManyAdapters(_) => (Code::ResourceExhausted, reason::BUSY, "unload an adapter first"),
        E::NotFinite => (
            Code::Internal,
            reason::INTERNAL,
            "ask without an adapter or with a smaller scale; if that fails too, get the model file again",
        ),
        E::Llama(_) => (Code::Internal, reason::INTERNAL, "look into the log of the model process"),
        E::Stopped => {
            (Code::Unavailable, reason::STOPPING, "ask again when the model process has been restarted")
        }
    };
    let problem = Problem::new(code, reason, error.to_string(), next_step);
    match error {
        E::Busy { retry_after } => problem.retry_after(*retry_after),
        _ => problem,
    }
}

fn prompt_problem(error: &PromptError) -> Problem {
    let (code, reason, next_step) = match error {
        PromptError::Empty => (Code::InvalidArgument, reason::EMPTY_PROMPT, "say something"),
        PromptError::Role => (Code::InvalidArgument, reason::BAD_REQUEST, "change the role"),
        PromptError::Tools(_) | PromptError::ToolCalls(_) => {
            (Code::InvalidArgument, reason::BAD_REQUEST, "send an array of objects, as in the OpenAI API")
        }
        PromptError::NoTemplate => (
            Code::FailedPrecondition,
            reason::BAD_REQUEST,
            "send a raw prompt, or load the model with a chat template of your own",
        ),
        PromptError::Template(TemplateError::Refused(_)) => {
            (Code::InvalidArgument, reason::BAD_REQUEST, "change the order or the roles of the messages")
        }
        PromptError::Template(_) => (
            Code::FailedPrecondition,
            reason::MODEL_INVALID,
            "load the model with a chat template of your own",
        ),
        PromptError::Llama(_) => (Code::Internal, reason::INTERNAL, "look into the log of the model process"),
    };
    Problem::new(code, reason, error.to_string(), next_step)
}

fn file_code(error: &GgufError) -> Code {
    match error {
        GgufError::Io(error) if error.kind() == io::ErrorKind::NotFound => Code::NotFound,
        GgufError::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => Code::PermissionDenied,
        _ => Code::InvalidArgument,
    }
}
