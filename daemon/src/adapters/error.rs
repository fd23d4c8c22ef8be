//! What can go wrong with an adapter.

use std::io;

use thiserror::Error;

use super::AdapterName;
use super::name::NotAName;
use super::room::Full;
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
    #[error("{0} is empty")]
    Empty(&'static str),
    /// The file is larger than allowed.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// Which file.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// The upload's files do not make an adapter.
    #[error("{0}")]
    Parts(&'static str),
    /// The upload ended with an error of the client.
    #[error("the upload was interrupted")]
    Interrupted,
    /// An import is checked against the model, and there is none.
    #[error("an adapter is checked against the loaded model before it is taken in, and {cause}")]
    NeedsModel {
        /// Why there is none.
        #[source]
        cause: ModelError,
    },
    /// The adapters take all the room they may.
    #[error(transparent)]
    Full(#[from] Full),
    /// The name is taken by other content.
    #[error("an adapter \"{0}\" with other content exists")]
    Exists(AdapterName),
    /// The active adapter cannot be removed.
    #[error("\"{0}\" is the active adapter")]
    InUse(AdapterName),
    /// The loaded model is not the one it was made for.
    #[error("adapter \"{name}\" cannot be used: {why}")]
    Unusable {
        /// Which.
        name: AdapterName,
        /// Why.
        why: String,
    },
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

impl AdapterError {
    /// The same for an import, which cannot do without a model.
    pub(super) fn while_importing(cause: ModelError) -> Self {
        match cause {
            ModelError::NoModel | ModelError::NotReady | ModelError::Failed { .. } => {
                Self::NeedsModel { cause }
            }
            other => Self::Model(other),
        }
    }
}
