//! What can go wrong with an adapter.

use std::io;

use thiserror::Error;

use super::AdapterName;
use super::name::NotAName;
use crate::model::ModelError;

/// An adapter operation did not happen; nothing changed.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// The name breaks the rules.
    #[error(transparent)]
    Name(#[from] NotAName),
    /// No adapter of that name.
    #[error("there is no adapter \"{0}\"")]
    NotFound(AdapterName),
    /// The file has no bytes.
    #[error("the adapter file is empty")]
    Empty,
    /// The file is larger than the configuration allows.
    #[error("the adapter file is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The upload ended with an error of the client.
    #[error("the upload was interrupted")]
    Interrupted,
    /// The name is taken by other content.
    #[error("an adapter \"{0}\" with other content exists")]
    Exists(AdapterName),
    /// The active adapter cannot be removed.
    #[error("\"{0}\" is the active adapter")]
    InUse(AdapterName),
    /// Another swap came first.
    #[error("the generation is {current}, not {expected}: another swap came first")]
    GenerationChanged {
        /// What the caller expected.
        expected: u64,
        /// What it is.
        current: u64,
    },
    /// The model process could not do its part.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The file system refused.
    #[error("the adapter store cannot be written")]
    Store(#[source] io::Error),
    /// The keeper of the adapters does not answer.
    #[error("the adapters are not available at the moment")]
    Unavailable,
}
