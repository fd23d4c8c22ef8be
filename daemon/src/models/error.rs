//! What can go wrong with a model file.

use std::io;

use thiserror::Error;

use super::hub::ChoiceError;
use super::name::NotAName;
use super::remote::RemoteError;
use super::room::NoRoom;
use super::source::SourceError;
use super::{ModelName, catalogue::CATALOGUE};
use crate::model::{ExamineError, LoadError};

/// An operation on the models did not happen; nothing that was there changed.
#[derive(Debug, Error)]
pub enum ModelsError {
    /// The name breaks the rules.
    #[error(transparent)]
    Name(#[from] NotAName),
    /// The source breaks the rules.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No entry of that name.
    #[error("there is no \"{}\" in the catalogue, which has {}", .0.escape_debug(), known())]
    NotInCatalogue(String),
    /// `auto` has nothing to offer.
    #[error("no model of the catalogue fits the {memory_bytes} bytes that a model may use here")]
    NothingFits {
        /// What a model may use.
        memory_bytes: u64,
    },
    /// Not a sha256.
    #[error("the sha256 is not 64 hex digits")]
    NotADigest,
    /// The repository has no such file, or several.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The source cannot be reached, or does not have it.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The hub's token cannot be read.
    #[error("the hub's access token cannot be read")]
    Token(#[source] io::Error),
    /// The bytes are not those that were announced.
    #[error("the file's sha256 is {found}, and {expected} was announced; what came was deleted")]
    Digest {
        /// What the source or the caller said.
        expected: String,
        /// What came.
        found: String,
    },
    /// The caller and the source disagree before a byte has come.
    #[error("the source announces the sha256 {announced}, and {expected} was asked for")]
    OtherDigest {
        /// What the caller wants.
        expected: String,
        /// What the source has.
        announced: String,
    },
    /// No room.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// No bytes.
    #[error("the file is empty")]
    Empty,
    /// The upload is not as long as it said.
    #[error("the upload has {received} bytes so far and not the {announced} it announced")]
    Incomplete {
        /// Bytes that came.
        received: u64,
        /// Bytes that were announced.
        announced: u64,
    },
    /// It is no model, or a bad one.
    #[error(transparent)]
    Examine(Box<ExamineError>),
    /// The name is taken by other content.
    #[error("a model \"{0}\" with other content exists")]
    Exists(ModelName),
    /// No model of that name.
    #[error("there is no model \"{0}\"")]
    NotFound(ModelName),
    /// The model that answers cannot be removed.
    #[error("\"{0}\" is the model that answers, or that is loaded at the start")]
    InUse(ModelName),
    /// There is no model to go back to.
    #[error("no model.path is configured to go back to")]
    NotConfigured,
    /// One at a time.
    #[error("another model is being pulled")]
    Busy,
    /// It cannot be loaded.
    #[error(transparent)]
    Load(Box<LoadError>),
    /// It answers, but the next start will not know.
    #[error("the model answers, but the choice cannot be written down, so a restart forgets it")]
    NotKept(#[source] io::Error),
    /// The file system refused.
    #[error("the model store cannot be written")]
    Store(#[source] io::Error),
}

fn known() -> String {
    CATALOGUE.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
}

// Boxed: they carry whole problems, and every `Result` here would be as large.
impl From<ExamineError> for ModelsError {
    fn from(error: ExamineError) -> Self {
        Self::Examine(Box::new(error))
    }
}

impl From<LoadError> for ModelsError {
    fn from(error: LoadError) -> Self {
        Self::Load(Box::new(error))
    }
}
