//! Requests inward: the JSON of the OpenAI API becomes an [`Ask`](crate::ask::Ask). What makes no sense as an ask is
//! found by the asker; here is found what cannot be said to it.

mod chat;
mod completion;
mod embeddings;
mod fields;
mod message;
mod options;
mod target;
mod tools;

pub(super) use chat::{ChatRequest, chat};
pub(super) use completion::{CompletionRequest, completion};
pub(super) use embeddings::{EmbeddingsRequest, Encoding, embeddings};
pub(super) use fields::Fields;
pub(super) use options::Delivery;
pub(super) use target::{Entry, Names};

/// A request that cannot be understood, or wants what is not to be had here.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The body.
    #[error("the body is not a JSON object")]
    NotJson(#[source] serde_json::Error),
    /// A field has to be there.
    #[error("`{param}` is missing: it has to be {expected}")]
    Missing { param: String, expected: &'static str },
    /// A field is something else.
    #[error("`{param}` has to be {expected}")]
    WrongType { param: String, expected: &'static str },
    /// A feature that is not there.
    #[error("`{param}` cannot be had here: {why}")]
    Unsupported { param: String, why: &'static str },
    /// Vectors of another length than the model's.
    #[error("`dimensions` cannot be had here: the model's vectors have {width} numbers; leave it out")]
    Dimensions { width: usize },
    /// Two fields that exclude each other.
    #[error("`{param}` and `{other}` exclude each other")]
    Both { param: String, other: &'static str },
    /// No such model.
    #[error("the model `{0}` does not exist here")]
    UnknownModel(String),
}
