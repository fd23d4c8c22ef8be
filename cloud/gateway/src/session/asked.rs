//! What a device asks, read strictly: from the first frame of an ask stream to a request for a provider.

use prost::Message as _;
use sha2::{Digest, Sha256};
use synesis_ledger::NanoUsd;
use synesis_mesh::kind::ErrorCode;
use synesis_proto::mesh::v1;
use ulid::Ulid;

use crate::providers::{Message, Request, Sampling};

/// The length of an answer when the device names none, in tokens.
const DEFAULT_MAX_TOKENS: u32 = 512;
/// More stop strings than any provider takes.
const MAX_STOP: usize = 16;

/// A checked ask. The request's model is still as the device named it.
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) redacted_hash: [u8; 32],
    pub(super) adapter_generation: u64,
    pub(super) max_charge: Option<NanoUsd>,
}

impl Asked {
    pub(super) fn read(request_id: Ulid, start: v1::AskStart) -> Result<Self, v1::Problem> {
        let bad = |what: &str| {
            ErrorCode::BadFrame.problem(what, "update the device; its request is not understood")
        };
        let redacted_hash = Sha256::digest(&start.prompt).into();
        let prompt = v1::Prompt::decode(start.prompt).map_err(|_| bad("the prompt does not decode"))?;
        if prompt.messages.iter().all(|message| message.content.trim().is_empty()) {
            return Err(ErrorCode::BadFrame.problem("the prompt is empty", "ask something"));
        }
        if let Some(message) = prompt.messages.iter().find(|m| providers_role(&m.role).is_none()) {
            let role: String = message.role.chars().take(20).collect();
            return Err(bad(&format!(
                "a message has the role {role:?}; roles are system, user, assistant and tool"
            )));
        }
        let in_range = |value: Option<f32>, most: f32| value.is_none_or(|v| (0.0..=most).contains(&v));
        if !in_range(start.temperature, 2.0) || !in_range(start.top_p, 1.0) {
            return Err(bad("temperature must be in 0 to 2, and top_p in 0 to 1"));
        }
        if start.stop.len() > MAX_STOP || start.stop.iter().any(String::is_empty) {
            return Err(bad("a request may have up to 16 stop strings, none of them empty"));
        }
        let max_charge = start.max_charge_nanousd.map(NanoUsd::from_i64);
        if max_charge.is_some_and(NanoUsd::is_negative) {
            return Err(bad("the device's limit for this request is negative"));
        }
        let messages = prompt.messages.into_iter().filter_map(|message| {
            let role = providers_role(&message.role)?.to_owned();
            Some(Message { role, content: message.content })
        });
        Ok(Self {
            request: Request {
                request_id: request_id.to_string(),
                model: start.model,
                messages: messages.collect(),
                max_tokens: if start.max_tokens == 0 { DEFAULT_MAX_TOKENS } else { start.max_tokens },
                sampling: Sampling { temperature: start.temperature, top_p: start.top_p, seed: start.seed },
                stop: start.stop,
            },
            redacted_hash,
            adapter_generation: start.adapter_generation,
            max_charge,
        })
    }
}

/// The role a message has at the provider, for the roles a device may send. What a tool said is put to the model as
/// the user's word: OpenAI's own `tool` role needs the `tool_call_id` of the call it answers, which the mesh protocol
/// does not carry, Anthropic has no such role at all, and many a chat template refuses it.
fn providers_role(role: &str) -> Option<&'static str> {
    match role {
        "system" => Some("system"),
        "user" | "tool" => Some("user"),
        "assistant" => Some("assistant"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        Asked::read(Ulid::nil(), start).err().unwrap().message
    }

    #[test]
    fn the_hash_is_of_the_prompt_bytes_as_they_came() {
        let start = start("user", "hello");
        let expected: [u8; 32] = Sha256::digest(&start.prompt).into();
        assert_eq!(Asked::read(Ulid::nil(), start).ok().unwrap().redacted_hash, expected);
    }

    #[test]
    fn every_role_a_device_may_send_reaches_the_provider_as_one_it_knows() {
        for (sent, asked) in
            [("system", "system"), ("user", "user"), ("assistant", "assistant"), ("tool", "user")]
        {
            let read = Asked::read(Ulid::nil(), start(sent, "hi"));
            let messages = read.map(|asked| asked.request.messages).map_err(|problem| problem.message);
            let expected = Message { role: asked.to_owned(), content: "hi".to_owned() };
            assert_eq!(messages, Ok(vec![expected]), "{sent}");
        }
    }

    #[test]
    fn a_request_without_a_length_gets_the_default_one() {
        assert_eq!(Asked::read(Ulid::nil(), start("user", "hi")).ok().unwrap().request.max_tokens, 512);
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
}
