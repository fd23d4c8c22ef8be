//! Any server that speaks OpenAI's `chat/completions`, streaming. `base_url` is what OpenAI's own clients take:
//! it includes `/v1` where the server wants it.

mod body;

use std::collections::VecDeque;

use async_trait::async_trait;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Number, Value};

pub(super) use body::decimal;

use super::error::bounded_words;
use super::http::{self, Dialect, Flow, HttpSettings, SetupError};
use super::tools::Assembly;
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
        let mut post = self.client.post(url).json(&body::body(&request));
        let key = self.settings.api_key.as_ref();
        if let Some(key) = key {
            post = post.bearer_auth(key.expose());
        }
        let events = http::open(post, self.settings.timeouts, key).await?;
        let key = self.settings.api_key.clone();
        Ok(http::answer(events, Chunks { key, ..Chunks::default() }))
    }
}

/// What has been learned from the chunks so far.
#[derive(Default)]
struct Chunks {
    reason: Option<FinishReason>,
    usage: Option<Usage>,
    calls: Assembly,
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
    tool_calls: Option<Vec<CallDelta>>,
}

/// A piece of a call. Some servers send a call whole, and leave its index out.
#[derive(Deserialize)]
struct CallDelta {
    index: Option<u64>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<Number>,
    completion_tokens: Option<Number>,
}

impl Chunks {
    fn calls(&mut self, pieces: &[CallDelta]) -> Result<(), ProviderError> {
        for CallDelta { index, id, function } in pieces {
            let index = index.unwrap_or_else(|| self.calls.next_index(id.is_some()));
            let name = function.as_ref().and_then(|function| function.name.as_deref());
            let arguments = function.as_ref().and_then(|function| function.arguments.as_deref());
            self.calls.piece(index, id.as_deref(), name, arguments)?;
        }
        Ok(())
    }

    fn finish(&mut self, reason: FinishReason, ready: &mut VecDeque<Event>) -> Result<(), ProviderError> {
        let calls = self.calls.finish()?;
        if calls.is_empty() && reason == FinishReason::ToolCalls {
            return Err(ProviderError::Garbled("an end that calls tools, and no call".to_owned()));
        }
        // Some servers call tools and say "stop".
        let reason =
            if !calls.is_empty() && reason == FinishReason::Stop { FinishReason::ToolCalls } else { reason };
        if !calls.is_empty() {
            ready.push_back(Event::ToolCalls(calls));
        }
        if let Some(usage) = self.usage.take() {
            // A count that is negative or no whole number counts as none.
            ready.push_back(Event::Usage {
                input_tokens: usage.prompt_tokens.and_then(|n| n.as_u64()),
                output_tokens: usage.completion_tokens.and_then(|n| n.as_u64()),
            });
        }
        ready.push_back(Event::Finished { reason });
        Ok(())
    }
}

impl Dialect for Chunks {
    fn on_event(&mut self, event: &sse::Event, ready: &mut VecDeque<Event>) -> Result<Flow, ProviderError> {
        if event.data.trim() == "[DONE]" {
            self.finish(self.reason.unwrap_or(FinishReason::Stop), ready)?;
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
                self.reason = Some(match reason.as_str() {
                    "length" => FinishReason::Length,
                    "tool_calls" => FinishReason::ToolCalls,
                    _ => FinishReason::Stop,
                });
            }
            let Some(delta) = choice.delta else { return Ok(Flow::More) };
            self.calls(&delta.tool_calls.unwrap_or_default())?;
            let text = delta.content.unwrap_or_default();
            if !text.is_empty() {
                ready.push_back(Event::Delta { text, output_tokens: None });
            }
        }
        Ok(Flow::More)
    }

    /// Some servers close after the last chunk without `[DONE]`; a finish reason is proof enough.
    fn on_end(&mut self, ready: &mut VecDeque<Event>) -> Result<(), ProviderError> {
        let reason = self.reason.ok_or(ProviderError::Truncated)?;
        self.finish(reason, ready)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{StreamExt, TryStreamExt};
    use serde_json::json;

    use super::*;
    use crate::providers::Timeouts;
    use crate::providers::tools::ToolCall;
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
        asked.sampling = crate::providers::Sampling {
            temperature: Some(0.7),
            top_p: Some(0.9),
            seed: Some(7),
            ..crate::providers::Sampling::default()
        };
        asked.stop = vec!["END".to_owned()];
        provider(&server).stream(asked).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        let seen = server.request(0).await.json;
        assert_eq!(seen["temperature"], json!(0.7));
        assert_eq!(seen["top_p"], json!(0.9));
        assert_eq!(seen["seed"], 7);
        assert_eq!(seen["stop"], json!(["END"]));
    }

    fn call_chunk(calls: &Value, finish: Option<&str>) -> String {
        let choice =
            json!({"index": 0, "delta": {"content": null, "tool_calls": calls}, "finish_reason": finish});
        format!("data: {}", json!({"choices": [choice]}))
    }

    async fn answer_of(chunks: Vec<String>) -> Vec<Event> {
        let server = ScriptedHttp::start(vec![Reply::sse(chunks)]).await;
        provider(&server).stream(request("big")).await.unwrap().try_collect().await.unwrap()
    }

    fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_owned() }
    }

    #[tokio::test]
    async fn pieces_of_calls_become_one_array_before_the_end() {
        let events = answer_of(vec![
            call_chunk(&json!([{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]), None),
            call_chunk(&json!([{"index": 0, "function": {"arguments": "{\"x\":"}}]), None),
            call_chunk(&json!([{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
                {"index": 0, "function": {"arguments": "1}"}}]), None),
            call_chunk(&Value::Null, Some("tool_calls")),
            "data: [DONE]".to_owned(),
        ])
        .await;
        let calls = vec![call("a", "f", "{\"x\":1}"), call("b", "g", "{}")];
        assert_eq!(events, [Event::ToolCalls(calls), Event::Finished { reason: FinishReason::ToolCalls }]);
    }

    #[tokio::test]
    async fn whole_calls_without_an_index_and_an_end_that_does_not_name_them_are_understood() {
        let events = answer_of(vec![
            call_chunk(&json!([{"id": "a", "function": {"name": "f", "arguments": "{}"}}]), None),
            call_chunk(&json!([{"id": "b", "function": {"name": "g", "arguments": "{}"}}]), Some("stop")),
        ])
        .await;
        let calls = vec![call("a", "f", "{}"), call("b", "g", "{}")];
        assert_eq!(events, [Event::ToolCalls(calls), Event::Finished { reason: FinishReason::ToolCalls }]);
    }

    #[tokio::test]
    async fn calls_that_make_no_sense_are_garbled() {
        for calls in [
            json!([{"index": 0, "id": "a", "function": {"arguments": "{}"}}]),
            json!([{"index": -1, "function": {"name": "f"}}]),
            json!([{"index": 0, "function": {"name": "f", "arguments": {"x": 1}}}]),
            json!({"index": 0}),
            Value::Null,
        ] {
            let error = error_of(Reply::sse(vec![call_chunk(&calls, Some("tool_calls"))])).await;
            assert!(matches!(error, ProviderError::Garbled(_)), "{calls}: {error:?}");
        }
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
        let mut chunks = Chunks::default();
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
