//! Answers outward: what the asker says becomes the JSON of the OpenAI API, whole or as server-sent events.

mod chat;
mod completion;
mod end;
mod logprobs;
pub(super) mod sse;

use bytes::Bytes;
use ulid::Ulid;

use crate::ask::{Delta, Done, TokenLogprob};

pub(super) use chat::ChatReply;
pub(super) use completion::CompletionReply;

/// What every object of one answer begins with.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Of the request.
    pub(super) request: Ulid,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// As the client named it.
    pub(super) model: String,
}

/// The form in which an answer is given. Pure: the same events are always the same bytes.
pub(super) trait Reply: Send + 'static {
    /// The events that a stream begins with.
    fn begin(&mut self) -> Bytes;

    /// The events of the next piece; may be empty.
    fn piece(&mut self, delta: Delta) -> Bytes;

    /// The last events, with the mark of the end.
    fn end(&mut self, done: Done) -> Bytes;

    /// The whole answer as one object.
    fn whole(self, text: String, logprobs: Vec<TokenLogprob>, done: Done) -> Bytes;
}

/// An object of ours as JSON. Nothing in these can fail to be said; if it could, an empty body would say so.
fn json(object: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(object).unwrap_or_default().into()
}
