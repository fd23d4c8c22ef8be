//! What is posted to `chat/completions`.

use serde_json::{Value, json};

use crate::providers::tools::ToolCall;
use crate::providers::{Message, Request};

/// The body. `max_tokens` and not `max_completion_tokens`: the compatible servers know the former.
pub(super) fn body(request: &Request) -> Value {
    let messages: Vec<Value> = request.messages.iter().map(message).collect();
    let mut body = json!({
        "model": request.model,
        "messages": messages,
        "max_tokens": request.max_tokens,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    let sampling = request.sampling;
    for (name, value) in [
        ("temperature", sampling.temperature),
        ("top_p", sampling.top_p),
        ("presence_penalty", sampling.presence_penalty),
        ("frequency_penalty", sampling.frequency_penalty),
    ] {
        if let Some(value) = value {
            body[name] = decimal(value);
        }
    }
    if let Some(seed) = sampling.seed {
        body["seed"] = seed.into();
    }
    if !request.stop.is_empty() {
        body["stop"] = json!(request.stop);
    }
    if !request.tools.is_empty() {
        body["tools"] = request.tools.to_value();
    }
    if let Some(schema) = &request.json_schema {
        body["response_format"] = response_format(schema);
    }
    body
}

fn message(message: &Message) -> Value {
    let mut written = json!({"role": message.role, "content": message.content});
    if !message.tool_calls.is_empty() {
        written["tool_calls"] = ToolCall::write_all(&message.tool_calls);
        if message.content.is_empty() {
            written["content"] = Value::Null;
        }
    }
    if message.answers_a_call() {
        written["tool_call_id"] = message.tool_call_id.as_str().into();
    }
    written
}

/// Any JSON has a mode of its own; the API refuses a strict schema that leaves anything open, so that one is asked
/// for without the promise.
fn response_format(schema: &Value) -> Value {
    if schema.as_object().is_some_and(serde_json::Map::is_empty) || schema.as_bool() == Some(true) {
        return json!({"type": "json_object"});
    }
    let strict = schema["type"] == "object" && leaves_nothing_open(schema);
    json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": strict}})
}

/// Every object names all of its members, requires them, and allows no other.
fn leaves_nothing_open(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            let closed = match members.get("properties").and_then(Value::as_object) {
                Some(properties) => {
                    let required = members.get("required").and_then(Value::as_array);
                    members.get("additionalProperties") == Some(&Value::Bool(false))
                        && properties.keys().all(|name| {
                            required.is_some_and(|all| all.iter().any(|r| r.as_str() == Some(name)))
                        })
                }
                None => members.get("type").is_none_or(|kind| kind != "object"),
            };
            closed && members.values().all(leaves_nothing_open)
        }
        Value::Array(all) => all.iter().all(leaves_nothing_open),
        _ => true,
    }
}

/// 0.7f32 as `0.7`, not as the `0.699999988079071` that widening it would print.
pub(in crate::providers) fn decimal(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// The whole body of a conversation with everything in it, as the API's reference writes it.
    #[test]
    fn a_conversation_with_tools_is_written_as_the_api_has_it() {
        let mut request = testing::tools_request("big");
        request.sampling.presence_penalty = Some(0.5);
        request.sampling.frequency_penalty = Some(-0.1);
        let expected = json!({
            "model": "big",
            "messages": [
                {"role": "user", "content": "weather in Bern?"},
                {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Bern\"}"}},
                    {"id": "call.2", "type": "function", "function": {"name": "clock", "arguments": ""}},
                ]},
                {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
                {"role": "tool", "content": "noon", "tool_call_id": "call.2"},
            ],
            "max_tokens": 64,
            "stream": true,
            "stream_options": {"include_usage": true},
            "presence_penalty": 0.5,
            "frequency_penalty": -0.1,
            "tools": [
                {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters":
                    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}},
                {"type": "function", "function": {"name": "clock"}},
            ],
        });
        assert_eq!(body(&request), expected);
    }

    #[test]
    fn a_schema_is_strict_when_it_leaves_nothing_open() {
        let format = |schema: Value| {
            let mut request = testing::request("big");
            request.json_schema = Some(schema);
            body(&request)["response_format"].take()
        };
        assert_eq!(format(json!({})), json!({"type": "json_object"}));
        let closed = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object",
            "properties": {"b": {"type": "string"}}, "required": ["b"], "additionalProperties": false}}},
            "required": ["a"], "additionalProperties": false});
        assert_eq!(
            format(closed.clone()),
            json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": closed, "strict": true}})
        );
        let mut open = closed.clone();
        open["properties"]["a"]["items"]["required"] = json!([]);
        for open in [open, json!({"type": "object"}), json!({"type": "array", "items": {"type": "string"}})] {
            assert_eq!(format(open.clone())["json_schema"]["strict"], false, "{open}");
        }
    }
}
