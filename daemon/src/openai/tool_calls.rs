//! Finds the tool calls in a local model's answer while it streams. Two notations are read: `<tool_call>{json}</tool_call>`,
//! which the Hermes and Qwen templates teach, and the bare JSON object `{"name", "parameters"}` of Llama 3.x, which only
//! counts at the beginning of an answer and with the name of a tool that was given. Text is held back only as long as it
//! may still become a call; what turns out to be none is given back unchanged.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
/// Llama 3.x may put it before a call.
const PYTHON_TAG: &str = "<|python_tag|>";
/// A bare object whose first key is another one is an answer in JSON, and no call.
const FIRST_KEYS: [&str; 4] = ["name", "parameters", "arguments", "type"];

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// For the reader.
    Text(String),
    /// For a tool.
    Call(Call),
}

/// One call of a tool, as the field `function` of the OpenAI API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Call {
    /// Of the tool.
    pub(super) name: String,
    /// A JSON object, as the model wrote it.
    pub(super) arguments: String,
}

/// Where in the answer the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but space so far.
    Beginning,
    /// In a bare object.
    Bare,
    /// After a bare object that was a call.
    AfterBare,
    /// In text, in which a tag may open.
    Text,
    /// After `<tool_call>`.
    Tagged,
    /// After its object; the closing tag may be missing.
    AfterTagged,
}

/// What the beginning of a text is.
enum Object {
    /// A call, and the length of its text.
    Call(Call, usize),
    /// Not to be said yet.
    Unfinished,
    /// Something else.
    Other,
}

/// Reads one answer.
#[derive(Debug)]
pub(super) struct ToolCalls {
    tools: Vec<String>,
    state: State,
    held: String,
}

impl ToolCalls {
    /// For an answer that may call `tools`.
    pub(super) fn new(tools: Vec<String>) -> Self {
        Self { tools, state: State::Beginning, held: String::new() }
    }

    /// What is certain after the next piece of the answer.
    pub(super) fn push(&mut self, text: &str) -> Vec<Found> {
        self.held.push_str(text);
        let mut found = Vec::new();
        while self.step(&mut found) {}
        found
    }

    /// The rest: there is no more text.
    pub(super) fn finish(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        let held = std::mem::take(&mut self.held);
        let rest = match self.state {
            State::AfterBare | State::AfterTagged => held.trim_start().to_owned(),
            State::Tagged => format!("{OPEN}{held}"),
            State::Beginning | State::Bare | State::Text => held,
        };
        self.state = State::Text;
        push_text(&mut found, &rest);
        found
    }

    /// Takes one thing off what is held; false: nothing is certain yet.
    fn step(&mut self, found: &mut Vec<Found>) -> bool {
        match self.state {
            State::Beginning => self.begin(),
            State::Bare => self.bare(found),
            State::AfterBare => self.after_bare(),
            State::Text => self.text(found),
            State::Tagged => self.tagged(found),
            State::AfterTagged => self.after_tagged(),
        }
    }

    fn begin(&mut self) -> bool {
        let start = self.held.trim_start();
        let start = start.strip_prefix(PYTHON_TAG).map_or(start, str::trim_start);
        self.state = match start.chars().next() {
            Some('{') => State::Bare,
            Some('<') if PYTHON_TAG.starts_with(start) => return false,
            Some(_) => State::Text,
            None => return false,
        };
        true
    }

    fn bare(&mut self, found: &mut Vec<Found>) -> bool {
        let start = self.held.trim_start();
        let start = start.strip_prefix(PYTHON_TAG).map_or(start, str::trim_start);
        let before = self.held.len() - start.len();
        match object(start) {
            Object::Call(call, length) if self.tools.contains(&call.name) => {
                self.held.drain(..before + length);
                found.push(Found::Call(call));
                self.state = State::AfterBare;
                true
            }
            Object::Unfinished if may_be_a_call(start) => false,
            Object::Call(..) | Object::Unfinished | Object::Other => {
                self.state = State::Text;
                true
            }
        }
    }

    /// Several bare calls stand one after another, with or without semicolons.
    fn after_bare(&mut self) -> bool {
        let rest = self.held.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        match rest.chars().next() {
            None => false,
            Some(first) => {
                self.held = rest.to_owned();
                self.state = if first == '{' { State::Bare } else { State::Text };
                true
            }
        }
    }

    fn text(&mut self, found: &mut Vec<Found>) -> bool {
        if let Some(at) = self.held.find(OPEN) {
            push_text(found, &self.held[..at]);
            self.held.drain(..at + OPEN.len());
            self.state = State::Tagged;
            return true;
        }
        let certain = self.held.len() - overlap(&self.held, OPEN);
        push_text(found, &self.held[..certain]);
        self.held.drain(..certain);
        false
    }

    fn tagged(&mut self, found: &mut Vec<Found>) -> bool {
        let start = self.held.trim_start();
        let before = self.held.len() - start.len();
        match object(start) {
            Object::Call(call, length) => {
                self.held.drain(..before + length);
                found.push(Found::Call(call));
                self.state = State::AfterTagged;
                true
            }
            Object::Unfinished => false,
            Object::Other => {
                push_text(found, OPEN);
                self.state = State::Text;
                true
            }
        }
    }

    fn after_tagged(&mut self) -> bool {
        let rest = self.held.trim_start();
        if let Some(rest) = rest.strip_prefix(CLOSE) {
            self.held = rest.to_owned();
        } else if CLOSE.starts_with(rest) {
            return false;
        }
        self.state = State::Text;
        true
    }
}

/// The call at the beginning of `text`.
fn object(text: &str) -> Object {
    #[derive(Deserialize)]
    struct Written<'a> {
        name: String,
        #[serde(borrow, alias = "parameters")]
        arguments: Option<&'a RawValue>,
    }
    if !text.is_empty() && !text.starts_with('{') {
        return Object::Other;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let value = match values.next() {
        None => return Object::Unfinished,
        Some(Err(error)) if error.is_eof() => return Object::Unfinished,
        Some(Err(_)) => return Object::Other,
        Some(Ok(value)) => value,
    };
    let Ok(Written { name, arguments }) = serde_json::from_str(value.get()) else { return Object::Other };
    let arguments = match arguments.map(RawValue::get) {
        None | Some("null") => "{}".to_owned(),
        // Some models write the object as a string already.
        Some(text) if text.starts_with('"') => serde_json::from_str(text).unwrap_or_default(),
        Some(text) if text.starts_with('{') => text.to_owned(),
        Some(_) => return Object::Other,
    };
    Object::Call(Call { name, arguments }, values.byte_offset())
}

/// Whether an unfinished object can still begin with a key of a call.
fn may_be_a_call(text: &str) -> bool {
    let inside = text.strip_prefix('{').unwrap_or(text).trim_start();
    let Some(key) = inside.strip_prefix('"') else { return inside.is_empty() };
    match key.split_once('"') {
        Some((key, _)) => FIRST_KEYS.contains(&key),
        None => FIRST_KEYS.iter().any(|first| first.starts_with(key)),
    }
}

/// How many bytes at the end of `text` are a beginning of `tag`.
fn overlap(text: &str, tag: &str) -> usize {
    (1..tag.len()).rev().find(|length| text.ends_with(&tag[..*length])).unwrap_or(0)
}

fn push_text(found: &mut Vec<Found>, text: &str) {
    match found.last_mut() {
        _ if text.is_empty() => {}
        Some(Found::Text(before)) => before.push_str(text),
        _ => found.push(Found::Text(text.to_owned())),
    }
}

#[cfg(test)]
mod tests;
