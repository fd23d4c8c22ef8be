//! Tools as the OpenAI API writes them, which is how devices send them: definitions, the calls of an answer, and calls
//! that arrive from a provider in pieces.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::ProviderError;

/// More tools than any provider takes, and more calls than any answer has.
const MOST: usize = 128;
/// The longest calls of one answer, encoded, in bytes: what a device takes.
const LONGEST_CALLS: usize = 256 * 1024;

/// JSON that is not what the API has at its place. It shows nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ToolsError {
    #[error("the definitions of tools are not the array of functions of the OpenAI API")]
    Definitions,
    #[error("a message's tool calls are not the array of functions of the OpenAI API")]
    Calls,
    #[error("a request may have up to {MOST} tools, and a message as many calls")]
    TooMany,
}

/// The tools a model may call. Their text is redacted before it reaches the gateway; still, it is never logged.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Tools {
    /// The array as it came; empty: there are none.
    pub(crate) json: String,
    pub(crate) functions: Vec<Function>,
}

/// One definition.
#[derive(Clone, PartialEq, Deserialize)]
pub(crate) struct Function {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) description: Option<String>,
    /// A JSON Schema; absent: no arguments.
    #[serde(default)]
    pub(crate) parameters: Option<Value>,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tools({})", self.functions.len())
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Definition {
    Function { function: Function },
}

impl Tools {
    /// # Errors
    /// When `json` is no array of functions.
    pub(crate) fn read(json: String) -> Result<Self, ToolsError> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        let all: Vec<Definition> = serde_json::from_str(&json).map_err(|_| ToolsError::Definitions)?;
        if all.len() > MOST {
            return Err(ToolsError::TooMany);
        }
        let functions: Vec<_> = all.into_iter().map(|Definition::Function { function }| function).collect();
        if functions.iter().any(|function| function.name.is_empty()) {
            return Err(ToolsError::Definitions);
        }
        if functions.is_empty() { Ok(Self::default()) } else { Ok(Self { json, functions }) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// The array, for a body.
    pub(crate) fn to_value(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or(Value::Null)
    }
}

/// A call of a tool.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// JSON as a rule; a model may write anything.
    pub(crate) arguments: String,
}

impl std::fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ToolCall(..)")
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Written {
    Function { id: String, function: WrittenCall },
}

#[derive(Deserialize)]
struct WrittenCall {
    name: String,
    #[serde(default)]
    arguments: String,
}

impl ToolCall {
    /// The calls of an assistant's message; an empty text has none.
    ///
    /// # Errors
    /// When `json` is no array of calls.
    pub(crate) fn read_all(json: &str) -> Result<Vec<Self>, ToolsError> {
        if json.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<Written> = serde_json::from_str(json).map_err(|_| ToolsError::Calls)?;
        if all.len() > MOST {
            return Err(ToolsError::TooMany);
        }
        let calls =
            all.into_iter().map(|Written::Function { id, function: WrittenCall { name, arguments } }| Self {
                id,
                name,
                arguments,
            });
        Ok(calls.collect())
    }

    /// The array of the OpenAI API.
    pub(crate) fn write_all(calls: &[Self]) -> Value {
        let call = |call: &Self| json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}});
        calls.iter().map(call).collect()
    }

    /// What of it a model reads or has written, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        (self.id.len() + self.name.len() + self.arguments.len()) as u64
    }
}

/// Calls that arrive in pieces. Whatever a provider says, it stays bounded.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    calls: BTreeMap<u64, ToolCall>,
    bytes: usize,
}

impl Assembly {
    /// Takes a piece of the call at `index`; its id and name come once, its arguments bit by bit.
    pub(super) fn piece(
        &mut self,
        index: u64,
        id: Option<&str>,
        name: Option<&str>,
        arguments: Option<&str>,
    ) -> Result<(), ProviderError> {
        let parts = [id, name, arguments];
        self.bytes += parts.into_iter().flatten().map(str::len).sum::<usize>();
        if self.bytes > LONGEST_CALLS {
            return Err(garbled("calls of tools without an end"));
        }
        let empty = || ToolCall { id: String::new(), name: String::new(), arguments: String::new() };
        let call = self.calls.entry(index).or_insert_with(empty);
        for (text, said) in [(&mut call.id, id), (&mut call.name, name)] {
            if let (true, Some(said)) = (text.is_empty(), said) {
                said.clone_into(text);
            }
        }
        call.arguments.push_str(arguments.unwrap_or_default());
        if self.calls.len() > MOST { Err(garbled("more calls of tools than tools")) } else { Ok(()) }
    }

    /// Whether the call at `index` has begun.
    pub(super) fn has(&self, index: u64) -> bool {
        self.calls.contains_key(&index)
    }

    /// Where a piece without an index belongs: one with an id begins a call.
    pub(super) fn next_index(&self, begins: bool) -> u64 {
        let last = self.calls.last_key_value().map(|(index, _)| *index);
        last.map_or(0, |last| if begins { last.saturating_add(1) } else { last })
    }

    /// The whole calls. One without an id gets one: what a tool answers has to name it.
    pub(super) fn finish(&mut self) -> Result<Vec<ToolCall>, ProviderError> {
        let mut calls: Vec<_> = std::mem::take(&mut self.calls).into_values().collect();
        if calls.iter().any(|call| call.name.is_empty()) {
            return Err(garbled("a call of a tool without a name"));
        }
        for (index, call) in calls.iter_mut().enumerate() {
            if call.id.is_empty() {
                call.id = format!("call_{index}");
            }
        }
        if ToolCall::write_all(&calls).to_string().len() > LONGEST_CALLS {
            return Err(garbled("calls of tools without an end"));
        }
        Ok(calls)
    }
}

fn garbled(what: &str) -> ProviderError {
    ProviderError::Garbled(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_functions_are_tools() {
        let tools =
            r#"[{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true}}]"#;
        let read = Tools::read(tools.to_owned()).unwrap();
        assert_eq!((read.functions[0].name.as_str(), read.json.as_str()), ("f", tools));
        assert_eq!(read.to_value()[0]["function"]["strict"], true, "what we do not know is kept");
        assert!(
            Tools::read(String::new()).unwrap().is_empty()
                && Tools::read("[]".to_owned()).unwrap().is_empty()
        );
        for bad in [
            "{",
            "{}",
            "[1]",
            r#"[{"type":"web_search"}]"#,
            r#"[{"type":"function","function":{"name":""}}]"#,
        ] {
            assert_eq!(Tools::read(bad.to_owned()).err(), Some(ToolsError::Definitions), "{bad}");
        }
        let one = r#"{"type":"function","function":{"name":"f"}}"#;
        let many = format!("[{}]", [one; MOST + 1].join(","));
        assert_eq!(Tools::read(many).err(), Some(ToolsError::TooMany));
    }

    #[test]
    fn calls_are_read_as_they_are_written() {
        let call = ToolCall { id: "c".to_owned(), name: "f".to_owned(), arguments: "{\"a\":1}".to_owned() };
        let written = ToolCall::write_all(std::slice::from_ref(&call)).to_string();
        assert_eq!(ToolCall::read_all(&written).unwrap(), [call]);
        assert!(ToolCall::read_all("").unwrap().is_empty());
        for bad in ["[", r#"[{"type":"function"}]"#, r#"[{"type":"custom","id":"c"}]"#] {
            assert_eq!(ToolCall::read_all(bad).err(), Some(ToolsError::Calls), "{bad}");
        }
    }

    #[test]
    fn pieces_become_whole_calls_in_their_order() {
        let mut pieces = Assembly::default();
        pieces.piece(1, Some("b"), Some("g"), Some("")).unwrap();
        pieces.piece(0, None, Some("f"), None).unwrap();
        pieces.piece(1, None, Some("again"), Some("{}")).unwrap();
        let call = |id: &str, name: &str, arguments: &str| ToolCall {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        assert_eq!(pieces.finish().unwrap(), [call("call_0", "f", ""), call("b", "g", "{}")]);
    }

    #[test]
    fn what_has_no_end_or_no_name_is_garbled() {
        let is_garbled =
            |outcome: Result<_, ProviderError>| matches!(outcome, Err(ProviderError::Garbled(_)));
        let mut nameless = Assembly::default();
        nameless.piece(0, Some("a"), None, Some("{}")).unwrap();
        assert!(is_garbled(nameless.finish().map(drop)));
        let mut long = Assembly::default();
        long.piece(0, Some("a"), Some("f"), Some(&"x".repeat(LONGEST_CALLS - 2))).unwrap();
        assert!(is_garbled(long.finish().map(drop)), "encoded it is longer");
        assert!(is_garbled(long.piece(0, None, None, Some("x"))));
        let mut many = Assembly::default();
        assert!(is_garbled((0..=MOST as u64).try_for_each(|index| many.piece(index, None, Some("f"), None))));
    }

    #[test]
    fn debug_output_never_shows_what_tools_and_calls_say() {
        let tools = Tools::read(r#"[{"type":"function","function":{"name":"planted"}}]"#.to_owned()).unwrap();
        let call =
            ToolCall { id: "planted".to_owned(), name: "planted".to_owned(), arguments: String::new() };
        assert!(!format!("{tools:?} {call:?}").contains("planted"));
    }
}
