//! Any server that speaks OpenAI's `chat/completions`, streaming. `base_url` is what OpenAI's own clients take:
//! it includes `/v1` where the server wants it.

use std::collections::VecDeque;

use async_trait::async_trait;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Number, Value, json};

use super::error::bounded_words;
use super::http::{self, Dialect, Flow, HttpSettings, SetupError};
use super::{Event, EventStream, FinishReason, Provider, ProviderError, Request, sse};

/// An OpenAI-compatible provider.
pub(crate) struct OpenAi {
    client: Client,
    settings: HttpSettings,
}

impl OpenAi {
    /// # Errors
    /// When the HTTPS client cannot be made.
    pub(crate) fn new(settings: HttpSettings) -> Result<Self, SetupError> {
        Ok(Self { client: http::client(&settings)?, settings })
    }
}

#[async_trait]
impl Provider for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn models(&self) -> &[String] {
        &self.settings.models
    }

    async fn stream(&self, request: Request) -> Result<EventStream, ProviderError> {
        let url = http::join(&self.settings.base_url, "chat/completions");
        let mut post = self.client.post(url).json(&body(&request));
        let key = self.settings.api_key.as_ref();
        if let Some(key) = key {
            post = post.bearer_auth(key.expose());
        }
        let events = http::open(post, self.settings.timeouts, key).await?;
        let key = self.settings.api_key.clone();
        Ok(http::answer(events, Chunks { reason: None, usage: None, key }))
    }
}

/// `max_tokens` and not `max_completion_tokens`: the compatible servers know the former.
fn body(request: &Request) -> Value {
    let messages: Vec<Value> =
        request.messages.iter().map(|m| json!({"role": m.role, "content": m.content})).collect();
    let mut body = json!({
        "model": request.model,
        "messages": messages,
        "max_tokens": request.max_tokens,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    let sampling = request.sampling;
    if let Some(temperature) = sampling.temperature {
        body["temperature"] = decimal(temperature);
    }
    if let Some(top_p) = sampling.top_p {
        body["top_p"] = decimal(top_p);
    }
    if let Some(seed) = sampling.seed {
        body["seed"] = seed.into();
    }
    if !request.stop.is_empty() {
        body["stop"] = json!(request.stop);
    }
    body
}

/// 0.7f32 as `0.7`, not as the `0.699999988079071` that widening it would print.
pub(super) fn decimal(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// What has been learned from the chunks so far.
struct Chunks {
    reason: Option<FinishReason>,
    usage: Option<Usage>,
    key: Option<crate::secret::Secret>,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<Number>,
    completion_tokens: Option<Number>,
}

impl Chunks {
    fn finish(&mut self, reason: FinishReason, ready: &mut VecDeque<Event>) {
        if let Some(usage) = self.usage.take() {
            // A count that is negative or no whole number counts as none.
            ready.push_back(Event::Usage {
                input_tokens: usage.prompt_tokens.and_then(|n| n.as_u64()),
                output_tokens: usage.completion_tokens.and_then(|n| n.as_u64()),
            });
        }
        ready.push_back(Event::Finished { reason });
    }
}

impl Dialect for Chunks {
    fn on_event(&mut self, event: &sse::Event, ready: &mut VecDeque<Event>) -> Result<Flow, ProviderError> {
        if event.data.trim() == "[DONE]" {
            self.finish(self.reason.unwrap_or(FinishReason::Stop), ready);
            return Ok(Flow::Complete);
        }
        let chunk: Chunk = serde_json::from_str(&event.data)
            .map_err(|_| ProviderError::Garbled("a chunk that is not chat/completions JSON".to_owned()))?;
        if let Some(error) = chunk.error {
            let words = error["message"].as_str().or(error.as_str()).unwrap_or_default();
            let key = self.key.as_ref().map(crate::secret::Secret::expose);
            return Err(ProviderError::BrokeOff { message: bounded_words(words, key) });
        }
        if chunk.usage.is_some() {
            self.usage = chunk.usage;
        }
        if let Some(choice) = chunk.choices.into_iter().next() {
            if let Some(reason) = choice.finish_reason {
                self.reason =
                    Some(if reason == "length" { FinishReason::Length } else { FinishReason::Stop });
            }
            let text = choice.delta.and_then(|delta| delta.content).unwrap_or_default();
            if !text.is_empty() {
                ready.push_back(Event::Delta { text, output_tokens: None });
            }
        }
        Ok(Flow::More)
    }

    /// Some servers close after the last chunk without `[DONE]`; a finish reason is proof enough.
    fn on_end(&mut self, ready: &mut VecDeque<Event>) -> Result<(), ProviderError> {
        let reason = self.reason.ok_or(ProviderError::Truncated)?;
        self.finish(reason, ready);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{StreamExt, TryStreamExt};

    use super::*;
    use crate::providers::Timeouts;
    use crate::secret::Secret;
    use crate::testing::scripted_http::{Reply, ScriptedHttp, openai_chunks};
    use crate::testing::{delta, request};

    fn provider(server: &ScriptedHttp) -> OpenAi {
        let timeouts = Timeouts { idle: Duration::from_millis(200), ..Timeouts::default() };
        let settings = HttpSettings {
            base_url: format!("http://{}/v1", server.address()).parse().unwrap(),
            api_key: Some(Secret::new("sk-test-key")),
            models: vec!["big".to_owned()],
            timeouts,
        };
        crate::tls::install_crypto();
        OpenAi::new(settings).unwrap()
    }

    async fn error_of(reply: Reply) -> ProviderError {
        let server = ScriptedHttp::start(vec![reply]).await;
        match provider(&server).stream(request("big")).await {
            Err(error) => error,
            Ok(stream) => stream.try_collect::<Vec<_>>().await.unwrap_err(),
        }
    }

    #[tokio::test]
    async fn an_answer_is_its_deltas_the_providers_count_and_the_reason() {
        let server =
            ScriptedHttp::start(vec![Reply::sse(openai_chunks(&["Hel", "lo"], Some((11, 2))))]).await;
        let events: Vec<Event> =
            provider(&server).stream(request("big")).await.unwrap().try_collect().await.unwrap();
        assert_eq!(
            events,
            [
                delta("Hel"),
                delta("lo"),
                Event::Usage { input_tokens: Some(11), output_tokens: Some(2) },
                Event::Finished { reason: FinishReason::Stop },
            ]
        );
        let seen = server.request(0).await;
        assert_eq!(seen.path, "/v1/chat/completions");
        assert_eq!(seen.header("authorization"), Some("Bearer sk-test-key"));
        assert_eq!(seen.json["stream_options"]["include_usage"], true);
        assert_eq!(seen.json["max_tokens"], 64);
        assert_eq!(seen.json["messages"][0]["content"], "hello");
    }

    #[tokio::test]
    async fn sampling_and_stop_reach_the_provider_as_written() {
        let server = ScriptedHttp::start(vec![Reply::sse(openai_chunks(&["x"], None))]).await;
        let mut asked = request("big");
        asked.sampling =
            crate::providers::Sampling { temperature: Some(0.7), top_p: Some(0.9), seed: Some(7) };
        asked.stop = vec!["END".to_owned()];
        provider(&server).stream(asked).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        let seen = server.request(0).await.json;
        assert_eq!(seen["temperature"], json!(0.7));
        assert_eq!(seen["top_p"], json!(0.9));
        assert_eq!(seen["seed"], 7);
        assert_eq!(seen["stop"], json!(["END"]));
    }

    #[tokio::test]
    async fn dropping_the_stream_closes_the_connection_to_the_provider() {
        let server = ScriptedHttp::start(vec![Reply::sse_then_hang(openai_chunks(&["Hel"], None))]).await;
        let mut stream = provider(&server).stream(request("big")).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), delta("Hel"));
        drop(stream);
        server.client_left().await;
    }

    #[tokio::test]
    async fn a_provider_that_stops_talking_is_an_error_after_the_idle_time() {
        let error = error_of(Reply::sse_then_hang(Vec::new())).await;
        assert_eq!(error, ProviderError::Silent { waited: Duration::from_millis(200) });
    }

    #[tokio::test]
    async fn a_server_error_can_be_retried_and_keeps_the_providers_words_but_not_the_key() {
        let body = r#"{"error":{"message":"overloaded, sk-test-key"}}"#;
        let error = error_of(Reply::status(503, body).with_header("retry-after", "7")).await;
        assert_eq!(
            error,
            ProviderError::Failing {
                status: 503,
                message: "overloaded, (..)".to_owned(),
                retry_after: Some(Duration::from_secs(7)),
            }
        );
    }

    #[tokio::test]
    async fn a_redirect_is_refused_so_that_the_key_stays_where_it_belongs() {
        let reply = Reply::status(307, "").with_header("location", "http://127.0.0.1:9/steal");
        assert!(matches!(error_of(reply).await, ProviderError::Refused { status: 307, .. }));
    }

    #[tokio::test]
    async fn nobody_listening_is_unreachable() {
        let server = ScriptedHttp::start(Vec::new()).await;
        let gone = provider(&server);
        drop(server);
        let error = gone.stream(request("big")).await.err();
        assert_eq!(error, Some(ProviderError::Unreachable));
    }

    #[tokio::test]
    async fn an_answer_cut_off_is_truncated() {
        let chunks = openai_chunks(&["Hel", "lo"], None);
        assert_eq!(error_of(Reply::sse(chunks[..1].to_vec())).await, ProviderError::Truncated);
    }

    #[tokio::test]
    async fn an_error_inside_the_stream_is_said_in_the_providers_words() {
        let reply = Reply::sse(vec![r#"data: {"error":{"message":"gpu on fire"}}"#.to_owned()]);
        assert_eq!(error_of(reply).await, ProviderError::BrokeOff { message: "gpu on fire".to_owned() });
    }

    #[tokio::test]
    async fn a_chunk_that_is_no_json_is_garbled() {
        let error = error_of(Reply::sse(vec!["data: surprise".to_owned()])).await;
        assert!(matches!(error, ProviderError::Garbled(_)), "{error:?}");
    }

    #[test]
    fn negative_usage_counts_as_none() {
        let mut chunks = Chunks { reason: None, usage: None, key: None };
        let mut ready = VecDeque::new();
        for data in [
            r#"{"choices":[],"usage":{"prompt_tokens":-5,"completion_tokens":3}}"#.to_owned(),
            "[DONE]".to_owned(),
        ] {
            chunks.on_event(&sse::Event { kind: "message".to_owned(), data }, &mut ready).unwrap();
        }
        assert_eq!(ready[0], Event::Usage { input_tokens: None, output_tokens: Some(3) });
    }
}
