//! Model providers behind one object-safe trait. A provider turns a [`Request`] into a stream of [`Event`]s;
//! dropping the stream cancels the work at the provider.

pub(crate) mod anthropic;
pub(crate) mod catalogue;
mod error;
mod http;
pub(crate) mod openai;
pub(crate) mod runtime;
mod sse;

use std::pin::Pin;

use async_trait::async_trait;
use futures_util::Stream;

pub(crate) use catalogue::Catalogue;
pub(crate) use error::ProviderError;
pub(crate) use http::{HttpSettings, Timeouts};

/// What a provider is asked. The text is redacted before it reaches the gateway; still, it is never logged.
#[derive(Clone)]
pub(crate) struct Request {
    /// The device's request id; it names the work in logs.
    pub(crate) request_id: String,
    pub(crate) model: String,
    pub(crate) messages: Vec<Message>,
    /// The most tokens the answer may have; never 0.
    pub(crate) max_tokens: u32,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
}

/// One message of the conversation.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// `system`, `user` or `assistant`.
    pub(crate) role: String,
    pub(crate) content: String,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("role", &self.role).field("content", &format_args!("(..)")).finish()
    }
}

/// How tokens are drawn; what is absent is the provider's own default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sampling {
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) seed: Option<u64>,
}

/// One step of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The next piece of text.
    Delta {
        text: String,
        /// Tokens produced up to and including this piece, when the provider counts as it goes.
        output_tokens: Option<u64>,
    },
    /// What the provider itself counted so far; a later one replaces an earlier one, field by field.
    Usage { input_tokens: Option<u64>, output_tokens: Option<u64> },
    /// The last event.
    Finished { reason: FinishReason },
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinishReason {
    /// The model said all it had to say, or met a stop string.
    Stop,
    /// `max_tokens` or the context is used up.
    Length,
}

impl FinishReason {
    /// The name on the wire (`AskFinished.reason`).
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// The events of one answer. It ends after [`Event::Finished`] or an error; dropping it cancels.
pub(crate) type EventStream = Pin<Box<dyn Stream<Item = Result<Event, ProviderError>> + Send>>;

/// A source of answers.
#[async_trait]
pub(crate) trait Provider: Send + Sync {
    /// The provider's kind, for logs.
    fn name(&self) -> &'static str;

    /// The models it serves.
    fn models(&self) -> &[String];

    /// The most input tokens `request` can be billed for; the worst case is held with it.
    ///
    /// # Errors
    /// When the provider is needed for the count and does not answer.
    async fn input_bound(&self, request: &Request) -> Result<u64, ProviderError> {
        Ok(input_bound_from_bytes(request))
    }

    /// Starts an answer.
    ///
    /// # Errors
    /// When the provider cannot be reached or refuses; the stream carries what goes wrong later.
    async fn stream(&self, request: Request) -> Result<EventStream, ProviderError>;
}

/// What a chat template adds around each message, in tokens: role markers, separators, line feeds.
const TEMPLATE_TOKENS_PER_MESSAGE: u64 = 16;
/// What a chat template adds once: a default system message, the opening of the answer.
const TEMPLATE_TOKENS_PER_REQUEST: u64 = 64;

/// An upper bound without a tokenizer: a token of a byte-level vocabulary covers at least one byte.
fn input_bound_from_bytes(request: &Request) -> u64 {
    request.messages.iter().fold(TEMPLATE_TOKENS_PER_REQUEST, |sum, message| {
        let bytes = message.role.len() as u64 + message.content.len() as u64;
        sum.saturating_add(bytes).saturating_add(TEMPLATE_TOKENS_PER_MESSAGE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_bound_grows_with_every_byte_and_every_message() {
        let message = |content: &str| Message { role: "user".to_owned(), content: content.to_owned() };
        let mut request = crate::testing::request("m");
        request.messages = vec![message("hello")];
        let one = input_bound_from_bytes(&request);
        assert_eq!(one, 64 + 16 + 4 + 5);
        request.messages.push(message(""));
        assert_eq!(input_bound_from_bytes(&request), one + 16 + 4);
    }

    #[test]
    fn debug_output_never_shows_what_a_message_says() {
        let message = Message { role: "user".to_owned(), content: "planted secret".to_owned() };
        assert!(!format!("{message:?}").contains("planted"));
    }
}
