//! The one place where a request for the cloud becomes bytes. All text in it is a [`Redacted`] or a [`RedactedJson`],
//! so there is no way from clear text into the tunnel (tests/tests/structure.rs holds this file to be the only one).

use prost::Message as _;
use prost::bytes::Bytes;
use sha2::{Digest, Sha256};
use synesis_ledger::NanoUsd;
use synesis_privacy::{Redacted, RedactedJson};
use synesis_proto::mesh::v1::{
    AskCancel, AskDone, AskResume, AskStart, AskUp, Prompt, PromptMessage, ask_up,
};

use crate::adapters::AdapterName;

/// How the answer should be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Wishes {
    /// Longest answer, in tokens.
    pub max_tokens: u32,
    /// 0 is greedy; none: the provider's default.
    pub temperature: Option<f32>,
    /// Nucleus sampling; none: the provider's default.
    pub top_p: Option<f32>,
    /// For repeatable sampling where the provider can.
    pub seed: Option<u64>,
    /// -2 to 2: once for a token that was said; none: the provider's default.
    pub presence_penalty: Option<f32>,
    /// -2 to 2: for each time that a token was said; none: the provider's default.
    pub frequency_penalty: Option<f32>,
    /// Texts that end the answer, redacted as the conversation is.
    pub stop: Redacted,
    /// Definitions of the tools that the model may call, redacted as the conversation is.
    pub tools: Option<RedactedJson>,
    /// The answer is JSON that this schema allows; redacted as the conversation is.
    pub json_schema: Option<RedactedJson>,
    /// Of the adapter active on this device, for the receipt.
    pub adapter_generation: u64,
    /// The pushed adapter that answers; none: the provider's model as it is.
    pub adapter: Option<PushedAdapter>,
}

/// An adapter that is meant to be at the gateway. Its name was checked to be one, and is no text of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedAdapter {
    /// What it is called.
    pub name: AdapterName,
    /// Of its file, hex; none: this device does not have it, and its name decides.
    pub sha256: Option<String>,
}

/// A redacted request, encoded. The hash is over exactly the bytes that are sent.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    prompt: Bytes,
    hash: [u8; 32],
    detector_version: &'static str,
}

impl Encoded {
    pub(super) fn new(redacted: &Redacted, wishes: &Wishes) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let messages = redacted.messages().iter().map(|message| PromptMessage {
            role: message.role().as_str().to_owned(),
            content: message.content().to_owned(),
            tool_calls_json: text(message.tool_calls()),
            tool_call_id: text(message.tool_call_id()),
            name: text(message.name()),
        });
        let prompt = Prompt {
            messages: messages.collect(),
            tools_json: text(wishes.tools.as_ref().map(RedactedJson::text)),
            json_schema: text(wishes.json_schema.as_ref().map(RedactedJson::text)),
        };
        let prompt = Bytes::from(prompt.encode_to_vec());
        let hash = Sha256::digest(&prompt).into();
        Self { prompt, hash, detector_version: redacted.detector_version() }
    }

    /// SHA-256 of the prompt's bytes, hexadecimal.
    pub(super) fn hash_hex(&self) -> String {
        hex::encode(self.hash)
    }

    pub(super) fn detector_version(&self) -> &'static str {
        self.detector_version
    }

    /// The frame that goes on with the answer from frame number `from`.
    pub(super) fn resume(&self, from: u64) -> AskUp {
        let resume = AskResume { from_seq: from, redacted_hash: self.hash.to_vec().into() };
        AskUp { message: Some(ask_up::Message::Resume(resume)) }
    }

    /// The frame that starts the request.
    pub(super) fn start(&self, wishes: &Wishes, most: Option<NanoUsd>) -> AskUp {
        let adapter = wishes.adapter.as_ref();
        let start = AskStart {
            prompt: self.prompt.clone(),
            model: String::new(),
            max_tokens: wishes.max_tokens,
            temperature: wishes.temperature,
            top_p: wishes.top_p,
            seed: wishes.seed,
            stop: wishes.stop.messages().iter().map(|text| text.content().to_owned()).collect(),
            detector_version: self.detector_version.to_owned(),
            adapter_generation: wishes.adapter_generation,
            max_charge_nanousd: most.map(NanoUsd::as_i64),
            presence_penalty: wishes.presence_penalty,
            frequency_penalty: wishes.frequency_penalty,
            adapter_sha256: adapter.and_then(|adapter| adapter.sha256.clone()).unwrap_or_default(),
            adapter_name: adapter.map(|adapter| adapter.name.to_string()).unwrap_or_default(),
        };
        AskUp { message: Some(ask_up::Message::Start(start)) }
    }
}

/// The frame that says that this device has everything.
pub(super) fn done() -> AskUp {
    AskUp { message: Some(ask_up::Message::Done(AskDone {})) }
}

/// The frame that says that nobody wants the answer any more.
pub(super) fn cancel() -> AskUp {
    AskUp { message: Some(ask_up::Message::Cancel(AskCancel {})) }
}

#[cfg(test)]
mod tests {
    use synesis_privacy::{Message, Policy, Vault};

    use super::*;

    fn policy() -> Policy {
        Policy::standard().unwrap()
    }

    fn wishes(stop: Redacted) -> Wishes {
        Wishes {
            max_tokens: 1,
            temperature: None,
            top_p: None,
            seed: None,
            presence_penalty: Some(0.5),
            frequency_penalty: None,
            stop,
            tools: None,
            json_schema: None,
            adapter_generation: 0,
            adapter: None,
        }
    }

    fn started(encoded: &Encoded, wishes: &Wishes) -> (AskStart, Prompt) {
        let Some(ask_up::Message::Start(start)) = encoded.start(wishes, None).message else { panic!() };
        let prompt = Prompt::decode(start.prompt.clone()).unwrap();
        (start, prompt)
    }

    #[test]
    fn what_is_encoded_is_the_redacted_text_and_its_hash_is_over_those_bytes() {
        let mut vault = Vault::with_seed(1);
        let messages = [Message::new("system", "be brief"), Message::new("user", "mail ann@example.org")];
        let redacted = policy().redact(&messages, &mut vault).unwrap();
        let stop = [Message::new("user", "ann@example.org"), Message::new("user", "###")];
        let wishes = wishes(policy().redact(&stop, &mut vault).unwrap());
        let encoded = Encoded::new(&redacted, &wishes);
        let (start, prompt) = started(&encoded, &wishes);
        assert_eq!(prompt.messages[0].content, "be brief");
        assert_eq!(prompt.messages[1].role, "user");
        assert!(prompt.messages[1].content.starts_with("mail [EMAIL_"), "{prompt:?}");
        assert_eq!(
            prompt.messages[1].content,
            format!("mail {}", start.stop[0]),
            "the same value, the same placeholder"
        );
        assert_eq!(start.stop[1], "###");
        assert_eq!((start.presence_penalty, start.frequency_penalty), (Some(0.5), None));
        assert_eq!(hex::encode(Sha256::digest(&start.prompt)), encoded.hash_hex());
    }

    #[test]
    fn tools_their_calls_and_a_schema_are_in_the_hashed_prompt_and_nothing_else_is_new() {
        let mut vault = Vault::with_seed(1);
        let calls =
            r#"[{"id":"c1","function":{"name":"send","arguments":"{\"to\":\"ann\\u0040example.org\"}"}}]"#;
        let messages = [
            Message::new("assistant", "").calling(calls),
            Message::new("tool", "sent to ann@example.org").answering("c1").named("send"),
        ];
        let redacted = policy().redact(&messages, &mut vault).unwrap();
        let plain = wishes(policy().redact(&[], &mut vault).unwrap());
        let tools = policy().redact_json(r#"[{"description":"asks ann@example.org"}]"#, &mut vault).unwrap();
        let schema = policy().redact_json(r#"{"const":"ann@example.org"}"#, &mut vault).unwrap();
        let wishes = Wishes { tools: Some(tools), json_schema: Some(schema), ..plain.clone() };
        let encoded = Encoded::new(&redacted, &wishes);
        let (start, prompt) = started(&encoded, &wishes);
        let [assistant, tool] = &prompt.messages[..] else { panic!("two") };
        assert!(assistant.tool_calls_json.contains(r#""id":"c1""#));
        assert_eq!((tool.tool_call_id.as_str(), tool.name.as_str()), ("c1", "send"));
        for text in [&assistant.tool_calls_json, &tool.content, &prompt.tools_json, &prompt.json_schema] {
            assert!(text.contains("[EMAIL_") && !text.contains("example.org"), "{text}");
        }
        assert_eq!(hex::encode(Sha256::digest(&start.prompt)), encoded.hash_hex());
        assert_ne!(Encoded::new(&redacted, &plain).hash_hex(), encoded.hash_hex());
    }
}
