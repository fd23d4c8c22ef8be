//! A model file that nobody has looked at yet is looked at in a process of its own, so that a hostile one can end
//! nothing else.

use std::path::Path;
use std::time::Duration;

use synesis_proto::runtime::v1::{EstimateModelRequest, LoadModelRequest};
use synesis_proto::{Problem, reason};
use thiserror::Error;

use super::ModelSpec;
use super::session::{Session, SessionError};

const GRACE: Duration = Duration::from_secs(1);
/// Enough to read every weight; the context's memory does not matter for that.
const SMALL_CONTEXT: u32 = 64;

/// What a model file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// Such as `llama`; empty when the file did not fit the memory and only its size is known.
    pub architecture: String,
    /// What its context was trained for, in tokens.
    pub trained_context_tokens: u32,
    /// Whether every weight was read and found to make sense. When memory is short that is left to the first load.
    pub checked: bool,
}

/// A file that is not taken in.
#[derive(Debug, Error)]
pub enum ExamineError {
    /// It is no model, or a damaged one.
    #[error("{}", .0.message)]
    Refused(Problem),
    /// It ended the process that looked at it.
    #[error("the file ended the process that checked it: {0}")]
    Deadly(String),
    /// There was no process to look at it.
    #[error("the model process that checks files cannot be started")]
    NoProcess(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Reads the header of the model in `file`, then loads it and reads every weight.
///
/// # Errors
/// The file is no model that could be loaded, or it could not be looked at.
pub async fn examine(spec: &ModelSpec, file: &Path) -> Result<Examined, ExamineError> {
    let session = Session::start(spec, file, String::new()).await.map_err(failed)?;
    let examined = examine_in(&session, spec, file).await;
    session.stop(GRACE).await;
    examined
}

async fn examine_in(session: &Session, spec: &ModelSpec, file: &Path) -> Result<Examined, ExamineError> {
    let path = file.to_string_lossy().into_owned();
    let estimate = EstimateModelRequest {
        path: path.clone(),
        context_tokens: SMALL_CONTEXT,
        parallel: 1,
        memory_limit_bytes: spec.memory_limit_bytes,
    };
    let header = match session.estimate(estimate).await {
        Ok(header) => header,
        Err(error) if too_large(&error) => return Ok(unchecked(String::new(), 0)),
        Err(error) => return Err(failed(error)),
    };
    let request = LoadModelRequest {
        path,
        context_tokens: SMALL_CONTEXT,
        threads: spec.threads,
        parallel: 1,
        memory_limit_bytes: spec.memory_limit_bytes,
        check_tensors: true,
        queue: 1,
        ..LoadModelRequest::default()
    };
    match session.load_model(request).await {
        Ok(info) => Ok(Examined {
            architecture: info.architecture,
            trained_context_tokens: info.trained_context_tokens,
            checked: true,
        }),
        Err(error) if too_large(&error) => Ok(unchecked(header.architecture, header.trained_context_tokens)),
        Err(error) => Err(failed(error)),
    }
}

fn unchecked(architecture: String, trained_context_tokens: u32) -> Examined {
    Examined { architecture, trained_context_tokens, checked: false }
}

/// There may be room for it later, when another model is not loaded.
fn too_large(error: &SessionError) -> bool {
    matches!(error, SessionError::Refused(problem) if problem.reason == reason::MODEL_TOO_LARGE)
}

fn failed(error: SessionError) -> ExamineError {
    match error {
        SessionError::Refused(problem) => ExamineError::Refused(problem),
        SessionError::Died { how, .. } => ExamineError::Deadly(how),
        error @ (SessionError::Spawn(_) | SessionError::Connect(_)) => {
            ExamineError::NoProcess(Box::new(error))
        }
    }
}
