//! The one place where a request for the cloud becomes bytes. It takes a [`Redacted`] and nothing else, so there is
//! no way from clear text into the tunnel (tests/tests/structure.rs holds this file to be the only one).

use prost::Message as _;
use prost::bytes::Bytes;
use sha2::{Digest, Sha256};
use synesis_ledger::NanoUsd;
use synesis_privacy::Redacted;
use synesis_proto::mesh::v1::{AskStart, AskUp, Prompt, PromptMessage, ask_up};

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
    /// Texts that end the answer, redacted as the conversation is.
    pub stop: Redacted,
    /// Of the adapter active on this device, for the receipt.
    pub adapter_generation: u64,
}

/// A redacted request, encoded. The hash is over exactly the bytes that are sent.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    prompt: Bytes,
    hash: [u8; 32],
    detector_version: &'static str,
}

impl Encoded {
    pub(super) fn new(redacted: &Redacted) -> Self {
        let messages = redacted.messages().iter().map(|message| PromptMessage {
            role: message.role().as_str().to_owned(),
            content: message.content().to_owned(),
            ..PromptMessage::default()
        });
        let prompt =
            Bytes::from(Prompt { messages: messages.collect(), ..Prompt::default() }.encode_to_vec());
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

    /// The frame that starts the request.
    pub(super) fn start(&self, wishes: Wishes, most: Option<NanoUsd>) -> AskUp {
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
            ..AskStart::default()
        };
        AskUp { message: Some(ask_up::Message::Start(start)) }
    }
}

#[cfg(test)]
mod tests {
    use synesis_privacy::{Message, Policy, Vault};

    use super::*;

    #[test]
    fn what_is_encoded_is_the_redacted_text_and_its_hash_is_over_those_bytes() {
        let mut vault = Vault::with_seed(1);
        let messages = [Message::new("system", "be brief"), Message::new("user", "mail ann@example.org")];
        let redacted = Policy::standard().unwrap().redact(&messages, &mut vault).unwrap();
        let stop = Policy::standard()
            .unwrap()
            .redact(&[Message::new("user", "ann@example.org"), Message::new("user", "###")], &mut vault);
        let encoded = Encoded::new(&redacted);
        let wishes = Wishes {
            max_tokens: 1,
            temperature: None,
            top_p: None,
            seed: None,
            stop: stop.unwrap(),
            adapter_generation: 0,
        };
        let Some(ask_up::Message::Start(start)) = encoded.start(wishes, None).message else { panic!() };
        let prompt = Prompt::decode(start.prompt.clone()).unwrap();
        assert_eq!(prompt.messages[0].content, "be brief");
        assert_eq!(prompt.messages[1].role, "user");
        assert!(prompt.messages[1].content.starts_with("mail [EMAIL_"), "{prompt:?}");
        assert_eq!(
            prompt.messages[1].content,
            format!("mail {}", start.stop[0]),
            "the same value, the same placeholder"
        );
        assert_eq!(start.stop[1], "###");
        assert_eq!(hex::encode(Sha256::digest(&start.prompt)), encoded.hash_hex());
    }
}
