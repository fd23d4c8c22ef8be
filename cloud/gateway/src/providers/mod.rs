//! Model providers behind one object-safe trait. A provider turns a [`Request`] into a stream of [`Event`]s;
//! dropping the stream cancels the work at the provider.

pub(crate) mod anthropic;
pub(crate) mod catalogue;
mod error;
mod http;
pub(crate) mod openai;
pub(crate) mod runtime;
mod sse;
pub(crate) mod tools;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::Stream;

pub(crate) use catalogue::Catalogue;
pub(crate) use error::ProviderError;
pub(crate) use http::{HttpSettings, Timeouts};
use tools::{ToolCall, Tools};

use crate::control_plane::AdapterRecord;

/// What a provider is asked. The text is redacted before it reaches the gateway; still, it is never logged.
#[derive(Clone)]
pub(crate) struct Request {
    /// The device's request id; it names the work in logs.
    pub(crate) request_id: String,
    /// The device, for a queue that is fair between devices. No provider outside of this machine is told.
    pub(crate) owner: String,
    pub(crate) model: String,
    pub(crate) messages: Vec<Message>,
    /// The most tokens the answer may have; never 0.
    pub(crate) max_tokens: u32,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    pub(crate) tools: Tools,
    /// The answer is JSON that this schema allows; `{}` allows any.
    pub(crate) json_schema: Option<serde_json::Value>,
    /// The adapter that answers; none: the model as it is.
    pub(crate) adapter: Option<AdapterPin>,
}

/// The file of an adapter. Nobody has looked into it yet.
#[derive(Debug, Clone)]
pub(crate) struct AdapterFile {
    /// Its sha256, hex.
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    /// Of the base model, as the device says.
    pub(crate) architecture: String,
}

impl AdapterFile {
    pub(crate) fn new(record: &AdapterRecord, path: PathBuf) -> Self {
        let adapter = &record.adapter;
        Self { id: adapter.sha256.to_string(), path, architecture: adapter.facts.architecture.clone() }
    }
}

/// An adapter that a provider has ready, and keeps for as long as this lives.
#[derive(Debug, Clone)]
pub(crate) struct AdapterPin {
    /// Its sha256, hex.
    pub(crate) id: String,
    pub(crate) _held: Arc<()>,
}

/// One message of the conversation.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub(crate) role: String,
    pub(crate) content: String,
    /// An assistant's calls of tools.
    pub(crate) tool_calls: Vec<ToolCall>,
    /// The call that a tool's message answers; never empty for a tool.
    pub(crate) tool_call_id: String,
    /// The tool that answers; may be empty.
    pub(crate) name: String,
}

impl Message {
    /// Whether it is the result of a call.
    pub(crate) fn answers_a_call(&self) -> bool {
        self.role == "tool"
    }

    /// Everything in it that a model reads, in bytes.
    fn bytes(&self) -> u64 {
        let calls = self.tool_calls.iter().map(ToolCall::bytes).sum::<u64>();
        calls + (self.content.len() + self.tool_call_id.len() + self.name.len()) as u64
    }
}

impl Request {
    /// Everything that a model reads, in bytes, without what a chat template adds.
    pub(crate) fn prompt_bytes(&self) -> u64 {
        let schema = self.json_schema.as_ref().map_or(0, |schema| schema.to_string().len());
        let messages = self.messages.iter().map(Message::bytes).sum::<u64>();
        messages + (self.tools.json.len() + schema) as u64
    }
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
    /// -2 to 2: once for a token that was said.
    pub(crate) presence_penalty: Option<f32>,
    /// -2 to 2: for each time that a token was said.
    pub(crate) frequency_penalty: Option<f32>,
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
    /// The calls of tools in the answer, all of them, once.
    ToolCalls(Vec<ToolCall>),
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
    /// The model wants tools to be called.
    ToolCalls,
}

impl FinishReason {
    /// The name on the wire (`AskFinished.reason`).
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
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

    /// Makes an adapter usable, once everything about it was checked. Costs nothing.
    ///
    /// # Errors
    /// [`ProviderError::Unfit`] when the model cannot use it; what a model process can fail with.
    async fn pin_adapter(&self, _: &AdapterFile) -> Result<AdapterPin, ProviderError> {
        let message =
            "adapters work with models beside the gateway only (a provider of kind runtime)".to_owned();
        Err(ProviderError::Unfit { message })
    }

    /// Starts an answer.
    ///
    /// # Errors
    /// When the provider cannot be reached or refuses; the stream carries what goes wrong later.
    async fn stream(&self, request: Request) -> Result<EventStream, ProviderError>;
}

/// What a chat template adds around each message, each tool and each call, in tokens: markers, separators, line feeds.
const TEMPLATE_TOKENS_PER_PART: u64 = 16;
/// What a chat template adds once: a default system message, the opening of the answer.
const TEMPLATE_TOKENS_PER_REQUEST: u64 = 64;
/// What a provider adds once when there are tools or a schema: instructions of its own. Anthropic documents up to 530
/// tokens for them ("Tool use: pricing"), the most of those who say.
const TEMPLATE_TOKENS_FOR_TOOLS: u64 = 1024;

/// An upper bound without a tokenizer: a token of a byte-level vocabulary covers at least one byte.
fn input_bound_from_bytes(request: &Request) -> u64 {
    let roles: usize = request.messages.iter().map(|message| message.role.len()).sum();
    let calls: usize = request.messages.iter().map(|message| message.tool_calls.len()).sum();
    let parts = (request.messages.len() + calls + request.tools.functions.len()) as u64;
    let tools = !request.tools.is_empty() || request.json_schema.is_some();
    TEMPLATE_TOKENS_PER_REQUEST
        + if tools { TEMPLATE_TOKENS_FOR_TOOLS } else { 0 }
        + parts * TEMPLATE_TOKENS_PER_PART
        + roles as u64
        + request.prompt_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_input_bound_grows_with_every_byte_and_every_message() {
        let message = |content: &str| Message {
            role: "user".to_owned(),
            content: content.to_owned(),
            ..Message::default()
        };
        let mut request = crate::testing::request("m");
        request.messages = vec![message("hello")];
        let one = input_bound_from_bytes(&request);
        assert_eq!(one, 64 + 16 + 4 + 5);
        request.messages.push(message(""));
        assert_eq!(input_bound_from_bytes(&request), one + 16 + 4);
    }

    #[test]
    fn the_input_bound_counts_tools_calls_their_results_and_a_schema() {
        let mut request = crate::testing::tools_request("m");
        let texts: usize = ["user", "weather in Bern?", "assistant", "tool", "rain", "tool", "noon"]
            .into_iter()
            .chain(["call_1", "weather", r#"{"city":"Bern"}"#, "call.2", "clock", "", "call_1", "call.2"])
            .map(str::len)
            .sum();
        let tools = request.tools.json.len();
        assert_eq!(input_bound_from_bytes(&request), (64 + 1024 + (4 + 2 + 2) * 16 + texts + tools) as u64);
        let before = input_bound_from_bytes(&request);
        request.json_schema = Some(serde_json::json!({"type": "object"}));
        assert_eq!(input_bound_from_bytes(&request), before + r#"{"type":"object"}"#.len() as u64);
    }

    #[test]
    fn debug_output_never_shows_what_a_message_says() {
        let message = Message { content: "planted secret".to_owned(), ..Message::default() };
        assert!(!format!("{message:?}").contains("planted"));
    }
}
