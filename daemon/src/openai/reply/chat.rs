//! `chat.completion`, and its stream of `chat.completion.chunk`.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::end::{Extra, Usage, fingerprint, finish_reason};
use super::logprobs::ChatLogprobs;
use super::sse::Events;
use super::{Head, Reply, json};
use crate::ask::{Delta, Done, TokenLogprob};
use crate::openai::tool_calls::{Call, Found, ToolCalls};

/// One answer in a chat.
#[derive(Debug)]
pub(in crate::openai) struct ChatReply {
    head: Head,
    /// Whether the stream's last event says how many tokens it took.
    usage: bool,
    /// Looks for calls in the text; none: no tools were given.
    reader: Option<ToolCalls>,
    /// Calls so far.
    calls: usize,
}

#[derive(Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: String,
    choices: [Choice; 1],
    usage: Usage,
    synesis: Extra,
}

#[derive(Serialize)]
struct Choice {
    index: u32,
    message: Message,
    logprobs: Option<ChatLogprobs>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message {
    role: &'static str,
    content: Option<String>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<String>,
    choices: &'a [Piece],
    /// `null` until the last chunk when it was asked for, and absent when it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    synesis: Option<Extra>,
}

#[derive(Serialize)]
struct Piece {
    index: u32,
    delta: PieceDelta,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct PieceDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
}

#[derive(Serialize)]
struct ToolCall {
    /// In a stream only.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    id: String,
    r#type: &'static str,
    function: Call,
}

impl ChatReply {
    /// An answer that may call `tools`; in a stream, with or without a last event about `usage`.
    pub(in crate::openai) fn new(head: Head, tools: Vec<String>, usage: bool) -> Self {
        let reader = (!tools.is_empty()).then(|| ToolCalls::new(tools));
        Self { head, usage, reader, calls: 0 }
    }

    fn read(&mut self, text: String) -> Vec<Found> {
        match &mut self.reader {
            Some(reader) => reader.push(&text),
            None if text.is_empty() => Vec::new(),
            None => vec![Found::Text(text)],
        }
    }

    /// What the text still held, and the calls that the provider told apart itself.
    fn rest(&mut self, done: &Done) -> Vec<Found> {
        let mut found = self.reader.as_mut().map(ToolCalls::finish).unwrap_or_default();
        found.extend(done.tool_calls.as_deref().map(told).unwrap_or_default().into_iter().map(Found::Call));
        found
    }

    fn call(&mut self, function: Call, in_stream: bool) -> ToolCall {
        let index = self.calls;
        self.calls += 1;
        let id = format!("call_{}_{index}", self.head.request);
        ToolCall { index: in_stream.then_some(index), id, r#type: "function", function }
    }

    fn chunk<'a>(&'a self, choices: &'a [Piece]) -> Chunk<'a> {
        Chunk {
            id: self.id(),
            object: "chat.completion.chunk",
            created: self.head.created,
            model: &self.head.model,
            system_fingerprint: None,
            choices,
            usage: self.usage.then_some(None),
            synesis: None,
        }
    }

    fn id(&self) -> String {
        format!("chatcmpl-{}", self.head.request)
    }

    /// One event per piece; the log probabilities go with the first.
    fn pieces(&mut self, events: &mut Events, found: Vec<Found>, logprobs: Vec<TokenLogprob>) {
        let mut logprobs = ChatLogprobs::of(logprobs);
        let mut deltas: Vec<PieceDelta> = Vec::with_capacity(found.len());
        for found in found {
            deltas.push(match found {
                Found::Text(text) => PieceDelta { content: Some(text), ..PieceDelta::default() },
                Found::Call(call) => {
                    PieceDelta { tool_calls: vec![self.call(call, true)], ..PieceDelta::default() }
                }
            });
        }
        if deltas.is_empty() && logprobs.is_some() {
            deltas.push(PieceDelta { content: Some(String::new()), ..PieceDelta::default() });
        }
        for delta in deltas {
            let piece = Piece { index: 0, delta, logprobs: logprobs.take(), finish_reason: None };
            events.push(&self.chunk(&[piece]));
        }
    }
}

impl Reply for ChatReply {
    fn begin(&mut self) -> Bytes {
        let delta =
            PieceDelta { role: Some("assistant"), content: Some(String::new()), ..PieceDelta::default() };
        let mut events = Events::default();
        events.push(&self.chunk(&[Piece { index: 0, delta, logprobs: None, finish_reason: None }]));
        events.bytes()
    }

    fn piece(&mut self, delta: Delta) -> Bytes {
        let mut events = Events::default();
        let found = self.read(delta.text);
        self.pieces(&mut events, found, delta.logprobs);
        events.bytes()
    }

    fn end(&mut self, done: Done) -> Bytes {
        let mut events = Events::default();
        let rest = self.rest(&done);
        self.pieces(&mut events, rest, Vec::new());
        let finish_reason = Some(finish_reason(&done, self.calls));
        let last = [Piece { index: 0, delta: PieceDelta::default(), logprobs: None, finish_reason }];
        let mut chunk = self.chunk(&last);
        chunk.system_fingerprint = Some(fingerprint(&done));
        let usage = Usage::from(&done);
        let extra = Extra::new(&self.head, done);
        if self.usage {
            events.push(&chunk);
            let mut chunk = self.chunk(&[]);
            (chunk.usage, chunk.synesis) = (Some(Some(usage)), Some(extra));
            events.push(&chunk);
        } else {
            chunk.synesis = Some(extra);
            events.push(&chunk);
        }
        events.done()
    }

    fn whole(mut self, text: String, logprobs: Vec<TokenLogprob>, done: Done) -> Bytes {
        let mut found = self.read(text);
        found.extend(self.rest(&done));
        let (mut content, mut tool_calls) = (String::new(), Vec::new());
        for found in found {
            match found {
                Found::Text(text) => content.push_str(&text),
                Found::Call(call) => tool_calls.push(self.call(call, false)),
            }
        }
        let message = Message {
            role: "assistant",
            // Space around a call is nothing that was said.
            content: Some(content).filter(|content| tool_calls.is_empty() || !content.trim().is_empty()),
            refusal: None,
            tool_calls,
        };
        json(&Completion {
            id: self.id(),
            object: "chat.completion",
            created: self.head.created,
            model: &self.head.model,
            system_fingerprint: fingerprint(&done),
            choices: [Choice {
                index: 0,
                message,
                logprobs: ChatLogprobs::of(logprobs),
                finish_reason: finish_reason(&done, self.calls),
            }],
            usage: Usage::from(&done),
            synesis: Extra::new(&self.head, done),
        })
    }
}

/// The calls in the array `tool_calls` of the OpenAI API.
fn told(tool_calls: &str) -> Vec<Call> {
    #[derive(serde::Deserialize)]
    struct Told {
        function: Function,
    }
    #[derive(serde::Deserialize)]
    struct Function {
        name: String,
        #[serde(default)]
        arguments: String,
    }
    // One that makes no sense costs itself and not the others.
    let calls: Vec<Box<RawValue>> = serde_json::from_str(tool_calls).unwrap_or_default();
    let read = |call: Box<RawValue>| serde_json::from_str::<Told>(call.get()).ok();
    let call = |told: Told| Call { name: told.function.name, arguments: told.function.arguments };
    calls.into_iter().filter_map(read).map(call).collect()
}

#[cfg(test)]
pub(super) mod tests;
