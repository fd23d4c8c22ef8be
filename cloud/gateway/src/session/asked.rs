//! What a device asks, read strictly: from the first frame of an ask stream to a request for a provider.

use prost::Message as _;
use serde_json::Value;
use sha2::{Digest, Sha256};
use synesis_ledger::NanoUsd;
use synesis_mesh::kind::ErrorCode;
use synesis_proto::mesh::v1;

use crate::answers::Identity;
use crate::control_plane::{RequestKey, Wanted};
use crate::providers::tools::{ToolCall, Tools, ToolsError};
use crate::providers::{Message, Request, Sampling};

/// The length of an answer when the device names none, in tokens.
const DEFAULT_MAX_TOKENS: u32 = 512;
/// More stop strings than any provider takes.
const MAX_STOP: usize = 16;

/// What tells a request from another with the same id: the prompt as it came, and everything else that was asked.
pub(super) fn identity(start: &v1::AskStart) -> Identity {
    let redacted_hash: [u8; 32] = Sha256::digest(&start.prompt).into();
    // The prompt is read once: its hash stands for it in the other.
    let rest = v1::AskStart { prompt: redacted_hash.to_vec().into(), ..start.clone() };
    Identity { redacted_hash, request_hash: Sha256::digest(rest.encode_to_vec()).into() }
}

/// A checked ask. The request's model is still as the device named it.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) redacted_hash: [u8; 32],
    pub(super) adapter_generation: u64,
    /// The pushed adapter to answer with.
    pub(super) adapter: Option<Wanted>,
    pub(super) max_charge: Option<NanoUsd>,
}

impl Asked {
    pub(super) fn read(key: RequestKey, start: v1::AskStart) -> Result<Self, v1::Problem> {
        let bad = |what: &str| {
            ErrorCode::BadFrame.problem(what, "update the device; its request is not understood")
        };
        let redacted_hash = Sha256::digest(&start.prompt).into();
        let prompt = v1::Prompt::decode(start.prompt).map_err(|_| bad("the prompt does not decode"))?;
        let says_nothing =
            |m: &v1::PromptMessage| m.content.trim().is_empty() && m.tool_calls_json.is_empty();
        if prompt.messages.iter().all(says_nothing) {
            return Err(ErrorCode::BadFrame.problem("the prompt is empty", "ask something"));
        }
        if let Some(message) = prompt.messages.iter().find(|m| providers_role(m).is_none()) {
            let role: String = message.role.chars().take(20).collect();
            return Err(bad(&format!(
                "a message has the role {role:?}; roles are system, user, assistant and tool"
            )));
        }
        let in_range =
            |value: Option<f32>, least: f32, most: f32| value.is_none_or(|v| (least..=most).contains(&v));
        if !in_range(start.temperature, 0.0, 2.0) || !in_range(start.top_p, 0.0, 1.0) {
            return Err(bad("temperature must be in 0 to 2, and top_p in 0 to 1"));
        }
        if !in_range(start.presence_penalty, -2.0, 2.0) || !in_range(start.frequency_penalty, -2.0, 2.0) {
            return Err(bad("penalties must be in -2 to 2"));
        }
        if start.stop.len() > MAX_STOP || start.stop.iter().any(String::is_empty) {
            return Err(bad("a request may have up to 16 stop strings, none of them empty"));
        }
        let max_charge = start.max_charge_nanousd.map(NanoUsd::from_i64);
        if max_charge.is_some_and(NanoUsd::is_negative) {
            return Err(bad("the device's limit for this request is negative"));
        }
        let adapter = match (start.adapter_sha256.as_str(), start.adapter_name.as_str()) {
            ("", "") => None,
            ("", name) => Some(Wanted::Name(name.to_owned())),
            (digest, _) => match Wanted::parse(digest) {
                wanted @ Wanted::Digest(_) => Some(wanted),
                Wanted::Name(_) => return Err(bad("the adapter's digest is not a sha256 in lower case hex")),
            },
        };
        let not_tools = |error: ToolsError| bad(&error.to_string());
        let messages: Result<Vec<Message>, _> = prompt.messages.into_iter().map(message).collect();
        Ok(Self {
            request: Request {
                request_id: key.request_id.to_string(),
                owner: key.device.to_string(),
                model: start.model,
                messages: messages.map_err(not_tools)?,
                max_tokens: if start.max_tokens == 0 { DEFAULT_MAX_TOKENS } else { start.max_tokens },
                sampling: Sampling {
                    temperature: start.temperature,
                    top_p: start.top_p,
                    seed: start.seed,
                    presence_penalty: start.presence_penalty,
                    frequency_penalty: start.frequency_penalty,
                },
                stop: start.stop,
                tools: Tools::read(prompt.tools_json).map_err(not_tools)?,
                json_schema: schema(&prompt.json_schema).map_err(bad)?,
                adapter: None,
            },
            redacted_hash,
            adapter_generation: start.adapter_generation,
            adapter,
            max_charge,
        })
    }
}

fn message(message: v1::PromptMessage) -> Result<Message, ToolsError> {
    let role = providers_role(&message).unwrap_or("user");
    let calls = ToolCall::read_all(&message.tool_calls_json)?;
    if !calls.is_empty() && role != "assistant" {
        return Err(ToolsError::Calls);
    }
    let (tool_call_id, name) = match role {
        "tool" => (message.tool_call_id, message.name),
        _ => (String::new(), String::new()),
    };
    Ok(Message { role: role.to_owned(), content: message.content, tool_calls: calls, tool_call_id, name })
}

fn schema(json: &str) -> Result<Option<Value>, &'static str> {
    if json.is_empty() {
        return Ok(None);
    }
    let schema = serde_json::from_str(json).ok().filter(|s: &Value| s.is_object() || s.is_boolean());
    schema.map(Some).ok_or("the schema of the answer is no JSON Schema")
}

/// The role a message has at the provider, for the roles a device may send. What a tool said without naming the call
/// it answers is put to the model as the user's word: no provider takes it as a result.
fn providers_role(message: &v1::PromptMessage) -> Option<&'static str> {
    match message.role.as_str() {
        "system" => Some("system"),
        "tool" if !message.tool_call_id.is_empty() => Some("tool"),
        "user" | "tool" => Some("user"),
        "assistant" => Some("assistant"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ulid::Ulid;
    use uuid::Uuid;

    use super::*;

    fn read(start: v1::AskStart) -> Result<Asked, v1::Problem> {
        Asked::read(RequestKey { device: Uuid::nil(), request_id: Ulid::nil() }, start)
    }

    fn start(role: &str, content: &str) -> v1::AskStart {
        let message = v1::PromptMessage {
            role: role.to_owned(),
            content: content.to_owned(),
            ..v1::PromptMessage::default()
        };
        let prompt = v1::Prompt { messages: vec![message], ..v1::Prompt::default() }.encode_to_vec();
        v1::AskStart { prompt: prompt.into(), ..v1::AskStart::default() }
    }

    fn refused(start: v1::AskStart) -> String {
        read(start).err().unwrap().message
    }

    #[test]
    fn the_hash_is_of_the_prompt_bytes_as_they_came() {
        let start = start("user", "hello");
        let expected: [u8; 32] = Sha256::digest(&start.prompt).into();
        assert_eq!(read(start).ok().unwrap().redacted_hash, expected);
    }

    #[test]
    fn every_role_a_device_may_send_reaches_the_provider_as_one_it_knows() {
        for (sent, asked) in
            [("system", "system"), ("user", "user"), ("assistant", "assistant"), ("tool", "user")]
        {
            let read = read(start(sent, "hi"));
            let messages = read.map(|asked| asked.request.messages).map_err(|problem| problem.message);
            let expected = Message { role: asked.to_owned(), content: "hi".to_owned(), ..Message::default() };
            assert_eq!(messages, Ok(vec![expected]), "{sent}");
        }
    }

    #[test]
    fn an_adapter_is_meant_by_its_digest_where_there_is_one_and_else_by_its_name() {
        let asked = |sha256: &str, name: &str| {
            let (adapter_sha256, adapter_name) = (sha256.to_owned(), name.to_owned());
            read(v1::AskStart { adapter_sha256, adapter_name, ..start("user", "hi") })
        };
        let digest = "ab".repeat(32);
        assert_eq!(asked("", "").ok().unwrap().adapter, None);
        assert_eq!(asked("", "tone").ok().unwrap().adapter, Some(Wanted::Name("tone".to_owned())));
        assert_eq!(asked(&digest, "tone").ok().unwrap().adapter, Some(Wanted::parse(&digest)));
        assert!(asked("../x", "tone").err().unwrap().message.contains("sha256"));
    }

    #[test]
    fn a_request_without_a_length_gets_the_default_one() {
        assert_eq!(read(start("user", "hi")).ok().unwrap().request.max_tokens, 512);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        assert!(refused(start("user", " ")).contains("empty"));
        assert!(refused(v1::AskStart::default()).contains("empty"));
        assert!(refused(start("wizard", "hi")).contains("wizard"));
        let garbage = v1::AskStart { prompt: vec![0xff; 9].into(), ..v1::AskStart::default() };
        assert!(refused(garbage).contains("does not decode"));
        for temperature in [-0.1, 2.1, f32::NAN] {
            let hot = v1::AskStart { temperature: Some(temperature), ..start("user", "hi") };
            assert!(refused(hot).contains("temperature"));
        }
        let stop = v1::AskStart { stop: vec![String::new()], ..start("user", "hi") };
        assert!(refused(stop).contains("stop"));
        let negative = v1::AskStart { max_charge_nanousd: Some(-1), ..start("user", "hi") };
        assert!(refused(negative).contains("negative"));
    }

    fn with(prompt: v1::Prompt) -> v1::AskStart {
        v1::AskStart { prompt: prompt.encode_to_vec().into(), ..v1::AskStart::default() }
    }

    const CALLS: &str = r#"[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]"#;

    fn conversation() -> v1::Prompt {
        let message =
            |role: &str| v1::PromptMessage { role: role.to_owned(), ..v1::PromptMessage::default() };
        v1::Prompt {
            messages: vec![
                v1::PromptMessage { tool_calls_json: CALLS.to_owned(), ..message("assistant") },
                v1::PromptMessage { tool_call_id: "c1".to_owned(), name: "f".to_owned(), ..message("tool") },
            ],
            tools_json: r#"[{"type":"function","function":{"name":"f"}}]"#.to_owned(),
            json_schema: r#"{"type":"object"}"#.to_owned(),
        }
    }

    #[test]
    fn tools_their_calls_and_results_and_a_schema_are_read() {
        let request = read(with(conversation())).ok().unwrap().request;
        assert_eq!(request.tools.functions[0].name, "f");
        assert_eq!(request.json_schema, Some(serde_json::json!({"type": "object"})));
        let [assistant, tool] = &request.messages[..] else { panic!("two") };
        assert_eq!((assistant.tool_calls[0].id.as_str(), assistant.tool_calls[0].name.as_str()), ("c1", "f"));
        assert!(tool.answers_a_call());
        assert_eq!((tool.tool_call_id.as_str(), tool.name.as_str()), ("c1", "f"));
        assert_eq!(request.owner, Uuid::nil().to_string());
    }

    #[test]
    fn tools_calls_and_schemas_that_make_no_sense_are_refused_with_the_reason() {
        let mut tools = conversation();
        tools.tools_json = "{}".to_owned();
        assert!(refused(with(tools)).contains("definitions of tools"));
        let mut calls = conversation();
        calls.messages[0].tool_calls_json = "[1]".to_owned();
        assert!(refused(with(calls)).contains("tool calls"));
        let mut user = conversation();
        user.messages[0].role = "user".to_owned();
        assert!(refused(with(user)).contains("tool calls"));
        for json in ["{", "3", "[]"] {
            let mut schema = conversation();
            schema.json_schema = json.to_owned();
            assert!(refused(with(schema)).contains("JSON Schema"), "{json}");
        }
        for penalty in [-2.1, 2.1, f32::NAN] {
            let start = v1::AskStart { presence_penalty: Some(penalty), ..start("user", "hi") };
            assert!(refused(start).contains("penalties"));
        }
    }
}
