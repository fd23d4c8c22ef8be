//! Server-sent events, as the OpenAI API uses them: `data:` lines only, and a mark at the end.

use bytes::{Bytes, BytesMut};
use serde::Serialize;

/// The last event of an answer that is whole.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// Some events, one after the other.
#[derive(Debug, Default)]
pub(in crate::openai) struct Events(BytesMut);

impl Events {
    /// One more.
    pub(super) fn push(&mut self, object: &impl Serialize) {
        self.push_json(&super::json(object));
    }

    /// One more, which is JSON on one line already.
    fn push_json(&mut self, json: &[u8]) {
        self.0.extend_from_slice(b"data: ");
        self.0.extend_from_slice(json);
        self.0.extend_from_slice(b"\n\n");
    }

    /// The mark of the end.
    pub(super) fn done(mut self) -> Bytes {
        self.0.extend_from_slice(DONE);
        self.0.freeze()
    }

    /// As they are sent.
    pub(super) fn bytes(self) -> Bytes {
        self.0.freeze()
    }
}

/// The event of an answer that is cut off. No mark follows it, so that it cannot be taken for a whole one.
pub(in crate::openai) fn error(json: &str) -> Bytes {
    let mut events = Events::default();
    events.push_json(json.as_bytes());
    events.bytes()
}
