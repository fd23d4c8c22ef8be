//! Everything that can go wrong between a request and its answer, in the engine's own words. `serve::problem`
//! maps each to what crosses the socket.

use std::time::Duration;

use crate::constraint::ConstraintError;
use crate::fit::{TooLarge, VectorsTooLarge};
use crate::gguf::{AdapterFault, GgufError, ModelFault};
use crate::llama::LlamaError;
use crate::prompt::PromptError;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error("no model is loaded")]
    NoModel,
    #[error("the model was replaced while the request waited")]
    ModelReplaced,
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(
        "the prompt takes {tokens} tokens and the context has {context}; an answer needs at least one more"
    )]
    PromptTooLong { tokens: usize, context: usize },
    #[error("as many requests as may wait for the model are waiting already")]
    Busy { retry_after: Duration },
    #[error("the model file cannot be loaded: {0}")]
    ModelUnreadable(#[source] GgufError),
    #[error("the model file cannot be loaded: {0}")]
    ModelFault(#[from] ModelFault),
    #[error("the model file cannot be loaded: {0}")]
    ModelRefused(#[source] LlamaError),
    #[error("the model file cannot be loaded: {0}")]
    ModelTemplate(#[source] PromptError),
    #[error("the model file cannot be loaded: it neither writes text nor makes vectors of texts")]
    ModelSilent,
    #[error("the model file cannot be loaded: it computes values that are not numbers")]
    ModelNotFinite,
    #[error(transparent)]
    ModelTooLarge(#[from] TooLarge),
    #[error("the memory of the process cannot be limited: {0}")]
    MemoryLimit(#[source] std::io::Error),
    #[error("the given chat template cannot be used: {0}")]
    GivenTemplate(#[source] PromptError),
    #[error("the adapter file cannot be loaded: {0}")]
    AdapterUnreadable(#[source] GgufError),
    #[error("the adapter file cannot be loaded: {0}")]
    AdapterFault(#[from] AdapterFault),
    #[error("the adapter file cannot be loaded: {0}")]
    AdapterRefused(#[source] LlamaError),
    #[error("the adapter makes the model compute values that are not numbers")]
    AdapterNotFinite,
    #[error("no adapter {0} is loaded")]
    AdapterUnknown(String),
    #[error("{0} adapters are loaded, which is the most there can be")]
    TooManyAdapters(usize),
    #[error("the model computed values that are not numbers")]
    NotFinite,
    #[error("the shape of the answer cannot be used: {0}")]
    Shape(#[source] ConstraintError),
    #[error("the answer could not be kept in its shape: {0}")]
    OutOfShape(#[from] ConstraintError),
    #[error("the loaded model makes no embeddings")]
    NoEmbeddings,
    #[error("the loaded model makes embeddings and writes no text")]
    WritesNothing,
    #[error("input {index} takes {tokens} tokens and the model's window has {window}")]
    InputTooLong { index: usize, tokens: usize, window: usize },
    #[error(transparent)]
    VectorsTooLarge(#[from] VectorsTooLarge),
    #[error(transparent)]
    Llama(#[from] LlamaError),
    #[error("the engine has stopped")]
    Stopped,
}
