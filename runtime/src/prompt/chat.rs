//! A chat as a client sends it: turns, calls of tools, and the tools there are.

use serde_json::{Map, Value, json};

use super::PromptError;

/// One turn of a chat.
#[derive(Clone, PartialEq)]
pub(crate) struct Message {
    role: String,
    content: String,
    /// The array of the OpenAI API, arguments as objects.
    tool_calls: Option<Value>,
    tool_call_id: Option<String>,
    name: Option<String>,
}

impl Message {
    pub(crate) fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), tool_calls: None, tool_call_id: None, name: None }
    }

    /// Adds the calls an assistant made: the `tool_calls` array of the OpenAI API as JSON, or nothing.
    ///
    /// # Errors
    /// When it is not an array of objects.
    pub(crate) fn with_tool_calls(mut self, json: &str) -> Result<Self, PromptError> {
        self.tool_calls = objects(json).map_err(PromptError::ToolCalls)?.map(with_parsed_arguments);
        Ok(self)
    }

    /// Adds what a tool's answer has: the call it answers, and the tool. Empty texts are left out.
    pub(crate) fn answering(mut self, tool_call_id: String, name: String) -> Self {
        self.tool_call_id = Some(tool_call_id).filter(|id| !id.is_empty());
        self.name = Some(name).filter(|name| !name.is_empty());
        self
    }

    pub(super) fn role(&self) -> &str {
        &self.role
    }

    pub(super) fn is_blank(&self) -> bool {
        self.content.trim().is_empty() && self.tool_calls.is_none()
    }
}

/// Turns, and the tools the model may call.
#[derive(Clone, PartialEq)]
pub(crate) struct Chat {
    pub(super) messages: Vec<Message>,
    tools: Option<Value>,
}

impl Chat {
    /// `tools` is the array of the OpenAI API as JSON, or empty.
    ///
    /// # Errors
    /// When the tools are not an array of objects.
    pub(crate) fn new(messages: Vec<Message>, tools: &str) -> Result<Self, PromptError> {
        Ok(Self { messages, tools: objects(tools).map_err(PromptError::Tools)? })
    }

    /// Whether there is more than roles and contents.
    pub(super) fn is_structured(&self) -> bool {
        self.tools.is_some()
            || self.messages.iter().any(|message| {
                message.tool_calls.is_some() || message.tool_call_id.is_some() || message.name.is_some()
            })
    }

    /// Every text that somebody else than the template wrote, but for roles and the keys of objects.
    pub(super) fn typed(&self) -> Vec<&str> {
        let mut texts = Vec::new();
        for message in &self.messages {
            texts.push(message.content.as_str());
            texts.extend(message.tool_call_id.as_deref());
            texts.extend(message.name.as_deref());
            message.tool_calls.iter().for_each(|calls| collect(calls, &mut texts));
        }
        self.tools.iter().for_each(|tools| collect(tools, &mut texts));
        texts
    }

    /// The messages and tools a template sees, with every typed text as `text` writes it and every key as
    /// `key` does.
    pub(super) fn written(
        &self,
        text: &dyn Fn(&str) -> String,
        key: &dyn Fn(&str) -> String,
    ) -> (Value, Option<Value>) {
        let messages = self.messages.iter().map(|message| {
            let mut written = Map::new();
            written.insert("role".to_owned(), json!(message.role));
            written.insert("content".to_owned(), json!(text(&message.content)));
            if let Some(calls) = &message.tool_calls {
                written.insert("tool_calls".to_owned(), rewrite(calls, text, key));
            }
            for (name, value) in [("tool_call_id", &message.tool_call_id), ("name", &message.name)] {
                if let Some(value) = value {
                    written.insert(name.to_owned(), json!(text(value)));
                }
            }
            Value::Object(written)
        });
        (messages.collect(), self.tools.as_ref().map(|tools| rewrite(tools, text, key)))
    }
}

/// A JSON array of objects; an empty text and an empty array are none.
fn objects(json: &str) -> Result<Option<Value>, serde_json::Error> {
    if json.trim().is_empty() {
        return Ok(None);
    }
    let objects: Vec<Map<String, Value>> = serde_json::from_str(json)?;
    Ok((!objects.is_empty()).then(|| objects.into_iter().map(Value::Object).collect()))
}

/// The OpenAI API sends a call's arguments as a text of JSON; templates write them with `tojson`, which would
/// quote that text once more.
fn with_parsed_arguments(mut calls: Value) -> Value {
    for call in calls.as_array_mut().into_iter().flatten() {
        let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
        let parsed =
            arguments.as_str().and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
        if let Some(parsed) = parsed {
            *arguments = Value::Object(parsed);
        }
    }
    calls
}

fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(entries) => entries.values().for_each(|value| collect(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn rewrite(value: &Value, text: &dyn Fn(&str) -> String, key: &dyn Fn(&str) -> String) -> Value {
    match value {
        // A template compares words (`type` is `function`): they stay as they are, and hold no control token.
        Value::String(word) if is_word(word) => value.clone(),
        Value::String(typed) => Value::String(text(typed)),
        Value::Array(values) => values.iter().map(|value| rewrite(value, text, key)).collect(),
        Value::Object(entries) => {
            entries.iter().map(|(name, value)| (key(name), rewrite(value, text, key))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn is_word(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: &str = r#"[{"id":"c1","type":"function","function":{"name":"add","arguments":"{\"b\": 1, \"a\": \"x y\"}"}}]"#;
    const TOOLS: &str = r#"[{"type":"function","function":{"name":"add","description":"adds two"}}]"#;

    fn upper(text: &str) -> String {
        text.to_uppercase()
    }

    #[test]
    fn only_what_is_there_is_written_and_typed_texts_pass_through_the_function() {
        let messages = vec![
            Message::new("user", "hi"),
            Message::new("assistant", "").with_tool_calls(CALLS).unwrap(),
            Message::new("tool", "it is 3").answering("c1".into(), String::new()),
        ];
        let chat = Chat::new(messages, TOOLS).unwrap();
        assert!(chat.is_structured());
        let (messages, tools) = chat.written(&upper, &upper);
        assert_eq!(messages[0], json!({"role": "user", "content": "HI"}));
        let arguments = &messages[1]["tool_calls"][0]["FUNCTION"]["ARGUMENTS"];
        assert_eq!(arguments.to_string(), r#"{"B":1,"A":"X Y"}"#, "an object, in its order");
        assert_eq!(messages[2], json!({"role": "tool", "content": "IT IS 3", "tool_call_id": "C1"}));
        let function = &tools.unwrap()[0]["FUNCTION"];
        assert_eq!((&function["NAME"], &function["DESCRIPTION"]), (&json!("add"), &json!("ADDS TWO")));
        assert!(chat.typed().contains(&"adds two") && chat.typed().contains(&"x y"));
    }

    #[test]
    fn arguments_that_are_no_object_stay_a_text() {
        let calls = r#"[{"function":{"name":"f","arguments":"not json"}}]"#;
        let chat =
            Chat::new(vec![Message::new("assistant", "").with_tool_calls(calls).unwrap()], "").unwrap();
        let (messages, tools) = chat.written(&str::to_owned, &str::to_owned);
        assert_eq!(messages[0]["tool_calls"][0]["function"]["arguments"], "not json");
        assert!(tools.is_none());
    }

    #[test]
    fn what_is_no_array_of_objects_is_refused() {
        for bad in ["{}", "[1]", "[", "\"x\""] {
            assert!(matches!(Chat::new(Vec::new(), bad), Err(PromptError::Tools(_))), "{bad}");
            let message = Message::new("assistant", "").with_tool_calls(bad);
            assert!(matches!(message, Err(PromptError::ToolCalls(_))), "{bad}");
        }
        assert!(!Chat::new(Vec::new(), "[]").unwrap().is_structured());
        assert!(Message::new("assistant", " ").with_tool_calls("[]").unwrap().is_blank());
    }
}
