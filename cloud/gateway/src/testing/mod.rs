//! What the tests of several modules need: a request, and honest fakes that speak the real protocols.

mod adapters;
mod crowds;
pub(crate) mod device;
mod end_to_end;
mod faults;
pub(crate) mod gateway;
mod identity;
mod limits;
mod moving;
mod pages;
mod resume;
pub(crate) mod scripted_http;
pub(crate) mod scripted_runtime;
mod stopping;
mod tools;

use crate::providers::tools::{ToolCall, Tools};
use crate::providers::{Event, Message, Request, Sampling};

/// A request for `model` that says hello.
pub(crate) fn request(model: &str) -> Request {
    Request {
        request_id: "01JD000000000000000000000A".to_owned(),
        model: model.to_owned(),
        owner: "6f1c2a52-3a0c-4b52-9a3e-2f6d4f6f0a11".to_owned(),
        messages: vec![message("user", "hello")],
        max_tokens: 64,
        sampling: Sampling::default(),
        stop: Vec::new(),
        tools: Tools::default(),
        json_schema: None,
        adapter: None,
    }
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned(), ..Message::default() }
}

/// Two tools, and a conversation in which both were called and have answered.
pub(crate) fn tools_request(model: &str) -> Request {
    let tools = r#"[{"type":"function","function":{"name":"weather","description":"of a city","parameters":
        {"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}},
        {"type":"function","function":{"name":"clock"}}]"#;
    let call = |id: &str, name: &str, arguments: &str| ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    let calls = vec![call("call_1", "weather", r#"{"city":"Bern"}"#), call("call.2", "clock", "")];
    let answers =
        |id: &str, content: &str| Message { tool_call_id: id.to_owned(), ..message("tool", content) };
    let messages = vec![
        message("user", "weather in Bern?"),
        Message { tool_calls: calls, ..message("assistant", "") },
        answers("call_1", "rain"),
        answers("call.2", "noon"),
    ];
    Request { messages, tools: Tools::read(tools.to_owned()).unwrap(), ..request(model) }
}

/// A delta of a provider that does not count as it goes.
pub(crate) fn delta(text: &str) -> Event {
    Event::Delta { text: text.to_owned(), output_tokens: None }
}
