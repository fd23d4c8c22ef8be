//! Anthropic's Messages API, streaming. `base_url` is what Anthropic's own clients take, without `/v1`.

use std::collections::VecDeque;

use async_trait::async_trait;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Number, Value, json};

use super::error::bounded_words;
use super::http::{self, Dialect, Flow, HttpSettings, SetupError};
use super::openai::decimal;
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
        let mut post = self.client.post(url).header("anthropic-version", API_VERSION).json(&body(&request));
        let key = self.settings.api_key.as_ref();
        if let Some(key) = key {
            let mut value = reqwest::header::HeaderValue::from_str(key.expose())
                .map_err(|_| ProviderError::Credentials { status: 401 })?;
            value.set_sensitive(true);
            post = post.header("x-api-key", value);
        }
        let events = http::open(post, self.settings.timeouts, key).await?;
        let key = self.settings.api_key.clone();
        Ok(http::answer(events, Messages { input_tokens: None, output_tokens: None, reason: None, key }))
    }
}

/// System messages have a field of their own in this API. It knows no seed.
fn body(request: &Request) -> Value {
    let (system, others): (Vec<_>, Vec<_>) = request.messages.iter().partition(|m| m.role == "system");
    let messages: Vec<Value> =
        others.into_iter().map(|m| json!({"role": m.role, "content": m.content})).collect();
    let mut body = json!({
        "model": request.model,
        "messages": messages,
        "max_tokens": request.max_tokens,
        "stream": true,
    });
    if !system.is_empty() {
        let texts: Vec<&str> = system.into_iter().map(|m| m.content.as_str()).collect();
        body["system"] = texts.join("\n\n").into();
    }
    if let Some(temperature) = request.sampling.temperature {
        body["temperature"] = decimal(temperature);
    }
    if let Some(top_p) = request.sampling.top_p {
        body["top_p"] = decimal(top_p);
    }
    if !request.stop.is_empty() {
        body["stop_sequences"] = json!(request.stop);
    }
    body
}

/// What has been learned from the events so far.
struct Messages {
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
    ContentBlockDelta {
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
    /// `ping`, block starts and stops, and what the API may add.
    #[serde(other)]
    Else,
}

#[derive(Deserialize)]
struct Started {
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct BlockDelta {
    #[serde(default)]
    text: String,
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
    fn finish(&mut self, reason: FinishReason, ready: &mut VecDeque<Event>) {
        ready.push_back(Event::Usage { input_tokens: self.input_tokens, output_tokens: self.output_tokens });
        ready.push_back(Event::Finished { reason });
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
            Said::ContentBlockDelta { delta } if !delta.text.is_empty() => {
                ready.push_back(Event::Delta { text: delta.text, output_tokens: None });
            }
            Said::MessageDelta { delta, usage } => {
                if let Some(usage) = usage {
                    self.output_tokens = usage.output_tokens.and_then(|n| n.as_u64());
                    if let Some(input) = usage.input_tokens.and_then(|n| n.as_u64()) {
                        self.input_tokens = Some(input);
                    }
                }
                if let Some(reason) = delta.stop_reason {
                    let length = matches!(reason.as_str(), "max_tokens" | "model_context_window_exceeded");
                    self.reason = Some(if length { FinishReason::Length } else { FinishReason::Stop });
                }
            }
            Said::MessageStop => {
                self.finish(self.reason.unwrap_or(FinishReason::Stop), ready);
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
            Said::ContentBlockDelta { .. } | Said::Else => {}
        }
        Ok(Flow::More)
    }

    fn on_end(&mut self, ready: &mut VecDeque<Event>) -> Result<(), ProviderError> {
        let reason = self.reason.ok_or(ProviderError::Truncated)?;
        self.finish(reason, ready);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, TryStreamExt};

    use super::*;
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
        let message =
            |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
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
