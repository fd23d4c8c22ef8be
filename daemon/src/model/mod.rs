//! The local model: a child process that does the inference, kept alive by [`RuntimeProcess`], spoken to through
//! [`ModelHandle`]. A crash of the child costs the answers it was giving, and nothing else.

mod answer;
mod handle;
mod process;
mod session;
mod status;

use synesis_proto::Problem;
use thiserror::Error;

pub use answer::Answer;
pub use handle::ModelHandle;
pub use process::{ModelSpec, RuntimeProcess};
pub use status::{ModelState, ModelStatus};

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
