//! One message of the history.

use serde_json::value::RawValue;
use synesis_privacy::Message;

use super::{Fields, RequestError};

const CONTENT: &str = "a string, or an array of parts of the type \"text\"";

/// The messages of a request.
///
/// # Errors
/// The first that cannot be understood.
pub(super) fn messages(request: &Fields<'_>) -> Result<Vec<Message>, RequestError> {
    let listed: Vec<&RawValue> = request.required("messages", "an array of messages")?;
    let read = |(index, json): (usize, &RawValue)| message(&Fields::of(json, &format!("messages[{index}]"))?);
    listed.into_iter().enumerate().map(read).collect()
}

fn message(fields: &Fields<'_>) -> Result<Message, RequestError> {
    let role: String = fields.required("role", "a string")?;
    let role = match role.as_str() {
        "developer" => "system",
        "system" | "user" | "assistant" | "tool" => role.as_str(),
        _ => {
            let expected = "one of system, developer, user, assistant and tool";
            return Err(RequestError::WrongType { param: fields.path("role"), expected });
        }
    };
    let tool_calls = calls(fields)?;
    let content = match text(fields)? {
        Some(text) => text,
        // An assistant that calls tools need not say anything beside.
        None if role == "assistant" && tool_calls.is_some() => String::new(),
        None => return Err(RequestError::Missing { param: fields.path("content"), expected: CONTENT }),
    };
    Ok(Message {
        tool_calls: tool_calls.filter(|_| role == "assistant"),
        tool_call_id: fields.optional("tool_call_id", "a string")?.filter(|_| role == "tool"),
        name: fields.optional("name", "a string")?.filter(|_| role == "tool"),
        ..Message::new(role, content)
    })
}

/// The text of a message; parts stand on lines of their own.
fn text(fields: &Fields<'_>) -> Result<Option<String>, RequestError> {
    let Some(content) = fields.raw("content") else { return Ok(None) };
    if content.get().starts_with('"') {
        return fields.optional("content", CONTENT);
    }
    let parts: Vec<&RawValue> = fields.required("content", CONTENT)?;
    let part = |(index, json): (usize, &RawValue)| {
        let part = Fields::of(json, &format!("{}[{index}]", fields.path("content")))?;
        let kind: String = part.required("type", "a string")?;
        match kind.as_str() {
            "text" => part.required::<String>("text", "a string"),
            _ => Err(RequestError::Unsupported {
                param: part.path("type"),
                why: "the models behind this endpoint read text only; send parts of the type \"text\"",
            }),
        }
    };
    let parts: Vec<String> = parts.into_iter().enumerate().map(part).collect::<Result<_, _>>()?;
    Ok(Some(parts.join("\n")))
}

/// The calls of tools in an assistant's message, as they were written.
fn calls(fields: &Fields<'_>) -> Result<Option<String>, RequestError> {
    let expected = "an array of tool calls";
    let Some(calls) = fields.optional::<Vec<serde_json::Value>>("tool_calls", expected)? else {
        return Ok(None);
    };
    let whole = |call: &serde_json::Value| call["function"]["name"].is_string();
    match calls.iter().all(whole) {
        true if calls.is_empty() => Ok(None),
        true => Ok(fields.raw("tool_calls").map(|json| json.get().to_owned())),
        false => Err(RequestError::WrongType { param: fields.path("tool_calls"), expected }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(messages: &str) -> Result<Vec<Message>, RequestError> {
        let body = format!(r#"{{"messages": {messages}}}"#);
        super::messages(&Fields::of_body(body.as_bytes()).unwrap())
    }

    #[test]
    fn roles_and_contents_are_translated() {
        let read = read(
            r#"[{"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}], "name": "ann"},
                {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "content": "42", "tool_call_id": "c1", "name": "f"},
                {"role": "assistant", "content": "", "tool_calls": []}]"#,
        );
        let calls = r#"[{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]"#;
        let expected = [
            Message::new("system", "be brief"),
            Message::new("user", "one\ntwo"),
            Message::new("assistant", "").calling(calls),
            Message::new("tool", "42").answering("c1").named("f"),
            Message::new("assistant", ""),
        ];
        assert!(read.unwrap() == expected);
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        for (messages, error) in [
            ("\"hello\"", "`messages` has to be an array of messages"),
            ("[1]", "`messages[0]` has to be an object"),
            (r#"[{"content": "x"}]"#, "`messages[0].role` is missing: it has to be a string"),
            (
                r#"[{"role": "function", "content": "x"}]"#,
                "`messages[0].role` has to be one of system, developer, user, assistant and tool",
            ),
            (
                r#"[{"role": "user"}]"#,
                "`messages[0].content` is missing: it has to be a string, or an array of parts of the type \"text\"",
            ),
            (
                r#"[{"role": "user", "content": 1}]"#,
                "`messages[0].content` has to be a string, or an array of parts of the type \"text\"",
            ),
            (
                r#"[{"role": "user", "content": [{"type": "text"}]}]"#,
                "`messages[0].content[0].text` is missing: it has to be a string",
            ),
            (
                r#"[{"role": "user", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:"}}]}]"#,
                "`messages[1].content[1].type` cannot be had here: the models behind this endpoint read text only; send parts of the type \"text\"",
            ),
            (
                r#"[{"role": "assistant", "tool_calls": [{"id": "c1"}]}]"#,
                "`messages[0].tool_calls` has to be an array of tool calls",
            ),
        ] {
            let refused = read(messages).err().map(|error| error.to_string());
            assert_eq!(refused.as_deref(), Some(error), "{messages}");
        }
    }
}
