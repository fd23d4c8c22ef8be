//! What is posted to `v1/messages`. System messages have a field of their own in this API, results of tools are the
//! user's word, and there is no seed.

use serde_json::{Map, Value, json};

use crate::providers::openai::decimal;
use crate::providers::tools::{Function, ToolCall};
use crate::providers::{Message, ProviderError, Request};

/// The tool whose arguments are the answer, when the answer has to fit a schema.
pub(super) const ANSWER: &str = "answer";

/// The body.
///
/// # Errors
/// When something is asked for that the API cannot promise.
pub(super) fn body(request: &Request) -> Result<Value, ProviderError> {
    let mut body = json!({
        "model": request.model,
        "messages": messages(request),
        "max_tokens": request.max_tokens,
        "stream": true,
    });
    let system: Vec<&str> = request
        .messages
        .iter()
        .filter(|message| message.role == "system")
        .map(|message| message.content.as_str())
        .collect();
    if !system.is_empty() {
        body["system"] = system.join("\n\n").into();
    }
    if let Some(temperature) = request.sampling.temperature {
        // Others go up to 2; this API up to 1.
        body["temperature"] = decimal(temperature.min(1.0));
    }
    if let Some(top_p) = request.sampling.top_p {
        body["top_p"] = decimal(top_p);
    }
    if !request.stop.is_empty() {
        body["stop_sequences"] = json!(request.stop);
    }
    if let Some(schema) = &request.json_schema {
        body["tools"] = json!([answer_tool(request, schema)?]);
        body["tool_choice"] = json!({"type": "tool", "name": ANSWER});
    } else if !request.tools.is_empty() {
        body["tools"] = request.tools.functions.iter().map(tool).collect();
    }
    Ok(body)
}

/// Consecutive results of tools are one message: the API wants those of one turn together.
fn messages(request: &Request) -> Vec<Value> {
    let mut messages: Vec<Value> = Vec::new();
    let mut results_are_last = false;
    for message in request.messages.iter().filter(|message| message.role != "system") {
        let answers = message.answers_a_call();
        match messages.last_mut().and_then(|last| last["content"].as_array_mut()) {
            Some(results) if answers && results_are_last => results.push(result(message)),
            _ => messages.push(self::message(message)),
        }
        results_are_last = answers;
    }
    messages
}

fn message(message: &Message) -> Value {
    if message.answers_a_call() {
        return json!({"role": "user", "content": [result(message)]});
    }
    if message.tool_calls.is_empty() {
        return json!({"role": message.role, "content": message.content});
    }
    let text = (!message.content.is_empty()).then(|| json!({"type": "text", "text": message.content}));
    let uses = message
        .tool_calls
        .iter()
        .map(|call| json!({"type": "tool_use", "id": id(&call.id), "name": call.name, "input": input(call)}));
    json!({"role": message.role, "content": text.into_iter().chain(uses).collect::<Vec<_>>()})
}

fn result(message: &Message) -> Value {
    json!({"type": "tool_result", "tool_use_id": id(&message.tool_call_id), "content": message.content})
}

/// The API takes letters, digits, `_` and `-`, and ids come from other APIs too.
fn id(id: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    id.chars().map(allowed).collect()
}

/// An object, which is all the API takes; arguments that a model did not write as one are kept as they are in it.
fn input(call: &ToolCall) -> Value {
    match serde_json::from_str(&call.arguments) {
        Ok(Value::Object(input)) => Value::Object(input),
        _ if call.arguments.trim().is_empty() => Value::Object(Map::new()),
        _ => json!({"arguments": call.arguments}),
    }
}

fn tool(function: &Function) -> Value {
    let schema = function.parameters.clone().unwrap_or_else(|| json!({"type": "object"}));
    let mut tool = json!({"name": function.name, "input_schema": schema});
    if let Some(description) = &function.description {
        tool["description"] = description.as_str().into();
    }
    tool
}

/// The API has no answer that must be JSON; it has a call that must be made, whose arguments fit a schema.
fn answer_tool(request: &Request, schema: &Value) -> Result<Value, ProviderError> {
    let declined = |message: &str| ProviderError::Declined { message: message.to_owned() };
    if !request.tools.is_empty() {
        return Err(declined("it cannot promise an answer that fits a schema and offer tools together"));
    }
    let any = schema.as_bool() == Some(true) || schema.as_object().is_some_and(Map::is_empty);
    if !any && schema["type"] != "object" {
        return Err(declined("an answer that fits a schema has to be an object"));
    }
    let schema = if any { json!({"type": "object"}) } else { schema.clone() };
    Ok(json!({"name": ANSWER, "description": "Gives the answer.", "input_schema": schema}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::tools::Tools;
    use crate::testing;

    #[test]
    fn a_conversation_with_tools_is_written_as_the_api_has_it() {
        let expected = json!({
            "model": "claude",
            "messages": [
                {"role": "user", "content": "weather in Bern?"},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Bern"}},
                    {"type": "tool_use", "id": "call_2", "name": "clock", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "rain"},
                    {"type": "tool_result", "tool_use_id": "call_2", "content": "noon"},
                ]},
            ],
            "max_tokens": 64,
            "stream": true,
            "tools": [
                {"name": "weather", "description": "of a city", "input_schema":
                    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
                {"name": "clock", "input_schema": {"type": "object"}},
            ],
        });
        assert_eq!(body(&testing::tools_request("claude")).unwrap(), expected);
    }

    #[test]
    fn a_schema_is_a_call_that_must_be_made() {
        let mut request = testing::request("claude");
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        request.json_schema = Some(schema.clone());
        let written = body(&request).unwrap();
        assert_eq!(written["tools"][0]["input_schema"], schema);
        assert_eq!(written["tool_choice"], json!({"type": "tool", "name": written["tools"][0]["name"]}));
        request.json_schema = Some(json!({}));
        assert_eq!(body(&request).unwrap()["tools"][0]["input_schema"], json!({"type": "object"}));
        request.json_schema = Some(json!({"type": "array"}));
        assert!(matches!(body(&request), Err(ProviderError::Declined { .. })));
        request.json_schema = Some(schema);
        request.tools = Tools::read(r#"[{"type":"function","function":{"name":"f"}}]"#.to_owned()).unwrap();
        assert!(matches!(body(&request), Err(ProviderError::Declined { .. })));
    }

    #[test]
    fn text_beside_calls_and_arguments_that_are_no_object_are_kept() {
        let mut request = testing::tools_request("claude");
        request.messages[1].content = "let me see".to_owned();
        request.messages[1].tool_calls[0].arguments = "Bern".to_owned();
        let content = body(&request).unwrap()["messages"][1]["content"].take();
        assert_eq!(content[0], json!({"type": "text", "text": "let me see"}));
        assert_eq!(content[1]["input"], json!({"arguments": "Bern"}));
    }
}
