//! Anthropic's Messages API, streaming. `base_url` is what Anthropic's own clients take, without `/v1`.

mod body;

use std::collections::VecDeque;

use async_trait::async_trait;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Number, Value};

use super::error::bounded_words;
use super::http::{self, Dialect, Flow, HttpSettings, SetupError};
use super::tools::Assembly;
use super::{Event, EventStream, FinishReason, Provider, ProviderError, Request, sse};

/// The version of the API this file was written against.
const API_VERSION: &str = "2023-06-01";

/// Anthropic, or a server that speaks its API.
pub(crate) struct Anthropic {
    client: Client,
    settings: HttpSettings,
}

impl Anthropic {
    /// # Errors
    /// When the HTTPS client cannot be made.
    pub(crate) fn new(settings: HttpSettings) -> Result<Self, SetupError> {
        Ok(Self { client: http::client(&settings)?, settings })
    }
}

#[async_trait]
impl Provider for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn models(&self) -> &[String] {
        &self.settings.models
    }

    async fn stream(&self, request: Request) -> Result<EventStream, ProviderError> {
        let url = http::join(&self.settings.base_url, "v1/messages");
        let body = body::body(&request)?;
        let mut post = self.client.post(url).header("anthropic-version", API_VERSION).json(&body);
        let key = self.settings.api_key.as_ref();
        if let Some(key) = key {
            let mut value = reqwest::header::HeaderValue::from_str(key.expose())
                .map_err(|_| ProviderError::Credentials { status: 401 })?;
            value.set_sensitive(true);
            post = post.header("x-api-key", value);
        }
        let events = http::open(post, self.settings.timeouts, key).await?;
        let key = self.settings.api_key.clone();
        let answer = if request.json_schema.is_some() { AnswerIs::ACall } else { AnswerIs::Text };
        Ok(http::answer(events, Messages { answer, key, ..Messages::default() }))
    }
}

/// Where the text of an answer is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum AnswerIs {
    #[default]
    Text,
    /// In the arguments of the one call that has to be made.
    ACall,
}

/// What has been learned from the events so far.
#[derive(Default)]
struct Messages {
    answer: AnswerIs,
    calls: Assembly,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    reason: Option<FinishReason>,
    key: Option<crate::secret::Secret>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Said {
    MessageStart {
        message: Started,
    },
    ContentBlockStart {
        index: u64,
        content_block: Block,
    },
    ContentBlockDelta {
        index: u64,
        delta: BlockDelta,
    },
    MessageDelta {
        delta: End,
        usage: Option<Usage>,
    },
    MessageStop,
    Error {
        error: Fault,
    },
    /// `ping`, the ends of blocks, and what the API may add.
    #[serde(other)]
    Else,
}

#[derive(Deserialize)]
struct Started {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    ToolUse {
        id: String,
        name: String,
    },
    #[serde(other)]
    Else,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum BlockDelta {
    TextDelta {
        text: String,
    },
    InputJsonDelta {
        partial_json: String,
    },
    #[serde(other)]
    Else,
}

#[derive(Deserialize)]
struct End {
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    input_tokens: Option<Number>,
    output_tokens: Option<Number>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: String,
}

impl Fault {
    /// The HTTP status the same fault has outside a stream, as the API's documentation lists them.
    fn status(&self) -> Option<u16> {
        match self.kind.as_str() {
            "rate_limit_error" => Some(429),
            "overloaded_error" => Some(529),
            "authentication_error" => Some(401),
            "permission_error" => Some(403),
            "invalid_request_error" => Some(400),
            "request_too_large" => Some(413),
            _ => None,
        }
    }
}

impl Messages {
    /// A piece of a call's arguments.
    fn input(&mut self, index: u64, json: String, ready: &mut VecDeque<Event>) -> Result<(), ProviderError> {
        if !self.calls.has(index) {
            return Err(ProviderError::Garbled("arguments of a call that was not begun".to_owned()));
        }
        if self.answer == AnswerIs::Text {
            return self.calls.piece(index, None, None, Some(&json));
        }
        if !json.is_empty() {
            ready.push_back(Event::Delta { text: json, output_tokens: None });
        }
        Ok(())
    }

    fn finish(&mut self, reason: FinishReason, ready: &mut VecDeque<Event>) -> Result<(), ProviderError> {
        let mut calls = self.calls.finish()?;
        let reason = match (self.answer, reason) {
            (AnswerIs::ACall, FinishReason::ToolCalls) => FinishReason::Stop,
            (_, reason) => reason,
        };
        if self.answer == AnswerIs::ACall {
            calls.clear();
        }
        if calls.is_empty() && reason == FinishReason::ToolCalls {
            return Err(ProviderError::Garbled("an end that calls tools, and no call".to_owned()));
        }
        for call in &mut calls {
            // Where the answer was cut, so are they.
            let whole = serde_json::from_str::<Value>(&call.arguments).is_ok_and(|input| input.is_object());
            if call.arguments.is_empty() {
                "{}".clone_into(&mut call.arguments);
            } else if !whole && reason != FinishReason::Length {
                return Err(ProviderError::Garbled("arguments of a call that are no object".to_owned()));
            }
        }
        if !calls.is_empty() {
            ready.push_back(Event::ToolCalls(calls));
        }
        ready.push_back(Event::Usage { input_tokens: self.input_tokens, output_tokens: self.output_tokens });
        ready.push_back(Event::Finished { reason });
        Ok(())
    }
}

impl Dialect for Messages {
    fn on_event(&mut self, event: &sse::Event, ready: &mut VecDeque<Event>) -> Result<Flow, ProviderError> {
        let said: Said = serde_json::from_str(&event.data)
            .map_err(|_| ProviderError::Garbled("an event that is not Messages API JSON".to_owned()))?;
        match said {
            Said::MessageStart { message } => {
                // The output count here is a start value, not a count of what follows: only the input is news.
                self.input_tokens = message.usage.and_then(|u| u.input_tokens).and_then(|n| n.as_u64());
                ready.push_back(Event::Usage { input_tokens: self.input_tokens, output_tokens: None });
            }
            Said::ContentBlockStart { index, content_block: Block::ToolUse { id, name } } => {
                self.calls.piece(index, Some(&id), Some(&name), None)?;
            }
            Said::ContentBlockDelta { delta: BlockDelta::TextDelta { text }, .. } if !text.is_empty() => {
                ready.push_back(Event::Delta { text, output_tokens: None });
            }
            Said::ContentBlockDelta { index, delta: BlockDelta::InputJsonDelta { partial_json } } => {
                self.input(index, partial_json, ready)?;
            }
            Said::MessageDelta { delta, usage } => {
                if let Some(usage) = usage {
                    self.output_tokens = usage.output_tokens.and_then(|n| n.as_u64());
                    if let Some(input) = usage.input_tokens.and_then(|n| n.as_u64()) {
                        self.input_tokens = Some(input);
                    }
                }
                if let Some(reason) = delta.stop_reason {
                    self.reason = Some(match reason.as_str() {
                        "max_tokens" | "model_context_window_exceeded" => FinishReason::Length,
                        "tool_use" => FinishReason::ToolCalls,
                        _ => FinishReason::Stop,
                    });
                }
            }
            Said::MessageStop => {
                self.finish(self.reason.unwrap_or(FinishReason::Stop), ready)?;
                return Ok(Flow::Complete);
            }
            Said::Error { error } => {
                let key = self.key.as_ref().map(crate::secret::Secret::expose);
                let message = bounded_words(&error.message, key);
                return Err(match error.status() {
                    Some(status) => ProviderError::from_status(status, message, None),
                    None => ProviderError::BrokeOff { message },
                });
            }
            Said::ContentBlockStart { .. } | Said::ContentBlockDelta { .. } | Said::Else => {}
        }
        Ok(Flow::More)
    }

    fn on_end(&mut self, ready: &mut VecDeque<Event>) -> Result<(), ProviderError> {
        let reason = self.reason.ok_or(ProviderError::Truncated)?;
        self.finish(reason, ready)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, TryStreamExt};

    use serde_json::json;

    use super::*;
    use crate::providers::tools::ToolCall;
    use crate::providers::{Message, Timeouts};
    use crate::secret::Secret;
    use crate::testing::scripted_http::{Reply, ScriptedHttp, anthropic_events};
    use crate::testing::{delta, request};

    fn provider(server: &ScriptedHttp) -> Anthropic {
        let settings = HttpSettings {
            base_url: format!("http://{}", server.address()).parse().unwrap(),
            api_key: Some(Secret::new("sk-ant-test")),
            models: vec!["claude".to_owned()],
            timeouts: Timeouts::default(),
        };
        crate::tls::install_crypto();
        Anthropic::new(settings).unwrap()
    }

    #[tokio::test]
    async fn an_answer_counts_its_input_first_and_its_output_last() {
        let server = ScriptedHttp::start(vec![Reply::sse(anthropic_events(&["Hel", "lo"], 12, 3))]).await;
        let events: Vec<Event> =
            provider(&server).stream(request("claude")).await.unwrap().try_collect().await.unwrap();
        assert_eq!(
            events,
            [
                Event::Usage { input_tokens: Some(12), output_tokens: None },
                delta("Hel"),
                delta("lo"),
                Event::Usage { input_tokens: Some(12), output_tokens: Some(3) },
                Event::Finished { reason: FinishReason::Stop },
            ]
        );
    }

    #[tokio::test]
    async fn system_messages_go_to_the_system_field() {
        let server = ScriptedHttp::start(vec![Reply::sse(anthropic_events(&["x"], 1, 1))]).await;
        let mut asked = request("claude");
        let message = |role: &str, content: &str| Message {
            role: role.to_owned(),
            content: content.to_owned(),
            ..Message::default()
        };
        asked.messages =
            vec![message("system", "be brief"), message("user", "hello"), message("system", "be kind")];
        provider(&server).stream(asked).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        let seen = server.request(0).await;
        assert_eq!(seen.path, "/v1/messages");
        assert_eq!(seen.header("x-api-key"), Some("sk-ant-test"));
        assert_eq!(seen.header("anthropic-version"), Some(API_VERSION));
        assert_eq!(seen.json["system"], "be brief\n\nbe kind");
        assert_eq!(seen.json["messages"], json!([{"role": "user", "content": "hello"}]));
    }

    /// An answer of one block, a call, whose arguments come in `pieces`.
    fn call_events(block: &Value, pieces: &[&str], stop_reason: &str) -> Vec<String> {
        let mut events = vec![
            json!({"type": "message_start", "message": {"usage": {"input_tokens": 12}}}),
            json!({"type": "content_block_start", "index": 1, "content_block": block}),
        ];
        events.extend(pieces.iter().map(|piece| {
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": piece}})
        }));
        events.push(json!({"type": "content_block_stop", "index": 1}));
        events.push(json!({"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 3}}));
        events.push(json!({"type": "message_stop"}));
        events.iter().map(|event| format!("data: {event}")).collect()
    }

    async fn told(events: Vec<String>, asked: Request) -> Result<Vec<Event>, ProviderError> {
        let server = ScriptedHttp::start(vec![Reply::sse(events)]).await;
        provider(&server).stream(asked).await?.try_collect().await
    }

    fn usage(output_tokens: Option<u64>) -> Event {
        Event::Usage { input_tokens: Some(12), output_tokens }
    }

    #[tokio::test]
    async fn a_call_is_assembled_from_the_pieces_of_its_input() {
        let block = json!({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}});
        for (pieces, arguments) in [(&["", "{\"x\": ", "1}"][..], "{\"x\": 1}"), (&[], "{}")] {
            let events = told(call_events(&block, pieces, "tool_use"), request("claude")).await.unwrap();
            let call =
                ToolCall { id: "toolu_1".to_owned(), name: "f".to_owned(), arguments: arguments.to_owned() };
            let finished = Event::Finished { reason: FinishReason::ToolCalls };
            assert_eq!(events, [usage(None), Event::ToolCalls(vec![call]), usage(Some(3)), finished]);
        }
    }

    #[tokio::test]
    async fn an_answer_that_has_to_fit_a_schema_is_the_input_of_its_call() {
        let mut asked = request("claude");
        asked.json_schema = Some(json!({"type": "object"}));
        let block = json!({"type": "tool_use", "id": "toolu_1", "name": body::ANSWER});
        let events = told(call_events(&block, &["{\"x\": ", "1}"], "tool_use"), asked).await.unwrap();
        let finished = Event::Finished { reason: FinishReason::Stop };
        assert_eq!(events, [usage(None), delta("{\"x\": "), delta("1}"), usage(Some(3)), finished]);
    }

    #[tokio::test]
    async fn calls_that_make_no_sense_are_garbled() {
        let block = json!({"type": "tool_use", "id": "toolu_1", "name": "f"});
        let other = json!({"type": "text"});
        for (block, pieces) in [(&block, &["{"][..]), (&block, &["[1]"]), (&other, &["{}"]), (&other, &[])] {
            let error = told(call_events(block, pieces, "tool_use"), request("claude")).await.unwrap_err();
            assert!(matches!(error, ProviderError::Garbled(_)), "{block} {pieces:?}: {error:?}");
        }
    }

    #[tokio::test]
    async fn dropping_the_stream_closes_the_connection_to_the_provider() {
        let start = anthropic_events(&["Hel"], 12, 3)[..2].to_vec();
        let server = ScriptedHttp::start(vec![Reply::sse_then_hang(start)]).await;
        let mut stream = provider(&server).stream(request("claude")).await.unwrap();
        stream.next().await.unwrap().unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), delta("Hel"));
        drop(stream);
        server.client_left().await;
    }

    #[tokio::test]
    async fn an_overload_in_the_middle_of_the_answer_can_be_retried() {
        let fault = r#"event: error
data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        let server = ScriptedHttp::start(vec![Reply::sse(vec![fault.to_owned()])]).await;
        let stream = provider(&server).stream(request("claude")).await.unwrap();
        let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
        assert!(error.retryable(), "{error:?}");
        assert_eq!(error.status(), Some(529));
    }

    #[tokio::test]
    async fn a_refused_key_is_no_reason_to_try_again() {
        let body =
            r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#;
        let server = ScriptedHttp::start(vec![Reply::status(401, body)]).await;
        let error = provider(&server).stream(request("claude")).await.err();
        assert_eq!(error, Some(ProviderError::Credentials { status: 401 }));
    }

    #[tokio::test]
    async fn an_answer_cut_off_is_truncated() {
        let start = anthropic_events(&["Hel"], 12, 3)[..2].to_vec();
        let server = ScriptedHttp::start(vec![Reply::sse(start)]).await;
        let stream = provider(&server).stream(request("claude")).await.unwrap();
        assert_eq!(stream.try_collect::<Vec<_>>().await.unwrap_err(), ProviderError::Truncated);
    }
}
