//! What the tests of several modules need: a request, and honest fakes that speak the real protocols.

mod crowds;
pub(crate) mod device;
mod end_to_end;
mod faults;
pub(crate) mod gateway;
pub(crate) mod scripted_http;
pub(crate) mod scripted_runtime;
mod stopping;

use crate::providers::{Event, Message, Request, Sampling};

/// A request for `model` that says hello.
pub(crate) fn request(model: &str) -> Request {
    Request {
        request_id: "01JD000000000000000000000A".to_owned(),
        model: model.to_owned(),
        messages: vec![Message { role: "user".to_owned(), content: "hello".to_owned() }],
        max_tokens: 64,
        sampling: Sampling::default(),
        stop: Vec::new(),
    }
}

/// A delta of a provider that does not count as it goes.
pub(crate) fn delta(text: &str) -> Event {
    Event::Delta { text: text.to_owned(), output_tokens: None }
}
