//! Everything that can go wrong between a request and its answer, in the engine's own words. `serve::problem`
//! maps each to what crosses the socket.

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
    #[error("{QUEUE} requests are already waiting for the model", QUEUE = super::QUEUE)]
    Busy,
    #[error("the model file cannot be loaded: {0}")]
    ModelUnreadable(#[source] GgufError),
    #[error("the model file cannot be loaded: {0}")]
    ModelFault(#[from] ModelFault),
    #[error("the model file cannot be loaded: {0}")]
    ModelRefused(#[source] LlamaError),
    #[error("the model file cannot be loaded: {0}")]
    ModelTemplate(#[source] PromptError),
    #[error("the model file cannot be loaded: it is not a model that writes text")]
    ModelSilent,
    #[error("the model file cannot be loaded: it computes values that are not numbers")]
    ModelNotFinite,
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
    #[error(transparent)]
    Llama(#[from] LlamaError),
    #[error("the engine has stopped")]
    Stopped,
}
