//! The local model: a child process that does the inference, kept alive by [`RuntimeProcess`], spoken to through
//! [`ModelHandle`]. A crash of the child costs the answers it was giving, and nothing else; another model takes the
//! place of the one that answers while answers go on.

mod answer;
mod conversion;
mod examine;
mod handle;
mod link;
mod process;
mod quarantine;
mod replace;
mod session;
mod spec;
mod status;

use synesis_proto::Problem;
use thiserror::Error;

pub use answer::Answer;
pub use conversion::Conversion;
pub use examine::{ExamineError, Examined, examine};
pub use handle::ModelHandle;
pub use process::RuntimeProcess;
pub use replace::{Aftermath, LoadError, LoadFailure, Loaded};
pub use spec::{ModelSpec, Target};
pub use status::{EngineLoad, ModelState, ModelStatus};

/// Why the model did not do what it was asked.
#[derive(Debug, Clone, Error)]
pub enum ModelError {
    /// No model is configured.
    #[error("no model is configured")]
    NoModel,
    /// It is loading or restarting, and that took longer than a caller waits.
    #[error("the model is not ready yet")]
    NotReady,
    /// It cannot be loaded.
    #[error("the model cannot be loaded: {reason}")]
    Failed {
        /// Why.
        reason: String,
        /// What to do.
        next_step: String,
    },
    /// The model process ended in the middle of it.
    #[error("the model process ended while it was working on this")]
    Crashed,
    /// Another model took its place, and this took longer than `model.drain_s`.
    #[error("the model was replaced while it was working on this")]
    Replaced,
    /// The adapter ended the process before, and is left alone.
    #[error("the adapter is not loaded: {0}")]
    Quarantined(String),
    /// It took longer than it may.
    #[error("the model process did not answer in time")]
    TimedOut,
    /// The model process said no, with a reason of the registry.
    #[error("{}", .0.message)]
    Refused(Problem),
    /// The model process answered something that makes no sense. The text is for the log.
    #[error("the model process broke the protocol: {0}")]
    Protocol(String),
}
