//! Several requests at once through the real process: the same answers as one after the other, kept prefixes,
//! turns between owners and adapters, shapes and log probabilities.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use futures_util::future::join_all;
use support::{Answer, Runtime, adapter, bare_turn, chat, chat_turn, collect, model};
use synesis_proto::reason;
use synesis_proto::runtime::v1::generate_event::Event;
use synesis_proto::runtime::v1::generate_request::{Constraint, Input};
use synesis_proto::runtime::v1::{
    GenerateRequest, LoadModelRequest, Sampling, TokenLogprob, UnloadAdapterRequest, WarmRequest,
    warm_request,
};
use tonic::Streaming;

const FRANCE: &str = "What is the capital of France?";

/// A process with so many sequences, and both adapters.
async fn with_sequences(parallel: u32) -> Runtime {
    let mut runtime = Runtime::start().await;
    let path = model(support::SMOL);
    let request = LoadModelRequest {
        path,
        parallel,
        context_tokens: 512,
        prefix_cache_bytes: 64 << 20,
        ..LoadModelRequest::default()
    };
    let info = runtime.load_with(request).await.unwrap();
    assert_eq!((info.parallel, info.context_tokens), (parallel, 512));
    for name in ["json", "pirate"] {
        runtime.load_adapter(name, &adapter(name)).await.unwrap();
    }
    runtime
}

/// All of them at once, in their order.
async fn at_once(runtime: &mut Runtime, requests: Vec<GenerateRequest>) -> Vec<Answer> {
    let mut streams = Vec::new();
    for request in requests {
        streams.push(runtime.stream(request).await.unwrap());
    }
    join_all(streams.into_iter().map(collect)).await.into_iter().map(Result::unwrap).collect()
}

fn long_turn(prompt: &str, adapter: &str) -> GenerateRequest {
    let system =
        "You are a careful assistant. Answer in one short sentence and do not make things up. ".repeat(4);
    let raw = format!(
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    );
    GenerateRequest { input: Some(Input::Raw(raw)), ..bare_turn(prompt, adapter) }
}

#[tokio::test]
async fn eight_at_once_say_what_each_says_alone_whatever_adapter_they_use() {
    let mut runtime = with_sequences(8).await;
    let prompts = [FRANCE, "Who wrote Hamlet?", "What do bees make?", "Name a primary color."];
    let requests: Vec<GenerateRequest> = (0..12)
        .map(|number| {
            let adapter = ["", "json", "pirate"][number % 3];
            GenerateRequest { max_tokens: 20, ..bare_turn(prompts[number % 4], adapter) }
        })
        .collect();
    let mut alone = Vec::new();
    for request in &requests {
        let request = GenerateRequest { deterministic: true, ..request.clone() };
        alone.push(runtime.answer(request).await.unwrap());
    }
    for together in [at_once(&mut runtime, requests.clone()).await, at_once(&mut runtime, requests).await] {
        for (one, other) in alone.iter().zip(&together) {
            assert_eq!(one.text, other.text);
            assert_eq!(one.finished.mean_logprob.to_bits(), other.finished.mean_logprob.to_bits());
        }
    }
    let health = runtime.health().await;
    assert_eq!((health.active, health.queued, health.parallel), (0, 0, 8));
}

#[tokio::test]
async fn a_common_beginning_is_computed_once_and_changes_nothing() {
    let mut runtime = with_sequences(2).await;
    let first = runtime.answer(long_turn(FRANCE, "")).await.unwrap();
    assert_eq!(first.finished.cached_tokens, 0);
    let again = runtime.answer(long_turn(FRANCE, "")).await.unwrap();
    assert_eq!(again.finished.cached_tokens, again.finished.input_tokens - 1);
    assert_eq!(first.text, again.text);
    assert_eq!(first.finished.mean_logprob.to_bits(), again.finished.mean_logprob.to_bits());

    let other = runtime.answer(long_turn("Who wrote Hamlet?", "")).await.unwrap();
    assert!(other.finished.cached_tokens > 50, "the system prompt: {:?}", other.finished);
    let adapted = runtime.answer(long_turn(FRANCE, "pirate")).await.unwrap();
    assert_eq!(adapted.finished.cached_tokens, 0, "computed with other weights");
}

#[tokio::test]
async fn the_second_turn_of_a_conversation_continues_the_first() {
    let mut runtime = with_sequences(2).await;
    let first = runtime.answer(chat_turn(FRANCE, "")).await.unwrap();
    let turns = chat(&[("user", FRANCE), ("assistant", &first.text), ("user", "And of Germany?")]);
    let second = GenerateRequest { input: Some(Input::Chat(turns)), ..chat_turn("", "") };
    let finished = runtime.answer(second).await.unwrap().finished;
    let known = first.finished.input_tokens + first.finished.output_tokens;
    assert!(finished.cached_tokens + 2 >= known, "{finished:?} after {:?}", first.finished);
}

#[tokio::test]
async fn a_beginning_that_was_pushed_out_comes_back_from_the_cache() {
    let mut runtime = with_sequences(1).await;
    let first = runtime.answer(long_turn(FRANCE, "")).await.unwrap();
    let between = runtime.answer(long_turn(FRANCE, "json")).await.unwrap();
    assert_eq!(between.finished.cached_tokens, 0);
    let again = runtime.answer(long_turn(FRANCE, "")).await.unwrap();
    assert_eq!(again.finished.cached_tokens, again.finished.input_tokens - 1);
    assert_eq!(first.text, again.text);

    runtime.client.unload_adapter(UnloadAdapterRequest { id: "json".into() }).await.unwrap();
    runtime.load_adapter("json", &adapter("json")).await.unwrap();
    let fresh = runtime.answer(long_turn(FRANCE, "json")).await.unwrap();
    assert_eq!(fresh.finished.cached_tokens, 0, "what an unloaded adapter computed is gone");
}

#[tokio::test]
async fn a_warmed_prompt_is_there_for_the_request_that_begins_with_it() {
    let mut runtime = with_sequences(2).await;
    let messages = [("system", "You are a pirate and answer like one, always.")];
    let request = |adapter_id: &str| WarmRequest {
        input: Some(warm_request::Input::Chat(chat(&messages))),
        adapter_id: adapter_id.into(),
        adapter_scale: 0.0,
    };
    let reply = runtime.client.warm(request("pirate")).await.unwrap().into_inner();
    assert!(reply.tokens > 5 && reply.cached_tokens == 0, "{reply:?}");
    let again = runtime.client.warm(request("pirate")).await.unwrap().into_inner();
    assert_eq!((again.tokens, again.cached_tokens), (reply.tokens, reply.tokens));

    let turns = chat(&[messages[0], ("user", FRANCE)]);
    let ask = GenerateRequest { input: Some(Input::Chat(turns)), ..chat_turn("", "pirate") };
    let finished = runtime.answer(ask).await.unwrap().finished;
    assert!(finished.cached_tokens + 1 >= reply.tokens, "{finished:?} after {reply:?}");

    let unknown = runtime.client.warm(request("unknown")).await.unwrap_err();
    assert_eq!(synesis_proto::Problem::from_status(&unknown).reason, reason::ADAPTER_NOT_FOUND);
}

/// The numbers of the requests in the order in which they got a sequence.
async fn order_of_starts(streams: Vec<(u32, Streaming<support::GenerateEventMessage>)>) -> Vec<u32> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
    let wait = |(number, mut stream): (u32, Streaming<support::GenerateEventMessage>)| {
        let sender = sender.clone();
        async move {
            while let Some(message) = stream.message().await.unwrap() {
                if matches!(message.event, Some(Event::Started(_))) {
                    sender.send(number).await.unwrap();
                }
            }
        }
    };
    join_all(streams.into_iter().map(wait)).await;
    receiver.close();
    let mut order = Vec::new();
    while let Some(number) = receiver.recv().await {
        order.push(number);
    }
    order
}

#[tokio::test]
async fn an_owner_with_many_requests_does_not_hold_up_one_with_few() {
    let mut runtime = with_sequences(1).await;
    let request = |owner: &str| GenerateRequest {
        owner: owner.into(),
        max_tokens: 6,
        ..bare_turn("Tell me a story.", "")
    };
    let mut streams = Vec::new();
    for number in 0..5 {
        streams.push((number, runtime.stream(request("greedy")).await.unwrap()));
    }
    streams.push((100, runtime.stream(request("modest")).await.unwrap()));
    let order = order_of_starts(streams).await;
    let place = order.iter().position(|number| *number == 100).unwrap();
    assert!(place < 5, "served in the order {order:?}");
    assert_eq!(order.len(), 6);
}

/// The deltas' log probabilities and the text.
async fn logprobs(runtime: &mut Runtime, request: GenerateRequest) -> (Vec<TokenLogprob>, String, f32) {
    let mut stream = runtime.stream(request).await.unwrap();
    let (mut all, mut text, mut mean) = (Vec::new(), String::new(), f32::NAN);
    while let Some(message) = stream.message().await.unwrap() {
        match message.event.unwrap() {
            Event::Delta(delta) => {
                text.push_str(&delta.text);
                all.extend(delta.logprobs);
            }
            Event::Finished(finished) => mean = finished.mean_logprob,
            Event::Started(_) => {}
        }
    }
    (all, text, mean)
}

#[tokio::test]
async fn log_probabilities_come_in_order_with_every_token() {
    let mut runtime = with_sequences(1).await;
    let request = GenerateRequest { logprobs: Some(5), max_tokens: 8, ..bare_turn("Name a color.", "") };
    let (tokens, text, mean) = logprobs(&mut runtime, request.clone()).await;
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.token.clone()).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
    for token in &tokens {
        assert_eq!(token.top.len(), 5);
        assert!(token.top.is_sorted_by(|one, next| one.logprob >= next.logprob));
        assert_eq!((&token.top[0].token, token.top[0].logprob), (&token.token, token.logprob), "greedy");
        let sum: f32 = token.top.iter().map(|token| token.logprob.exp()).sum();
        assert!(sum > 0.0 && sum <= 1.0001, "{sum}");
    }
    let expected = tokens.iter().map(|token| token.logprob).sum::<f32>() / tokens.len() as f32;
    assert!((mean - expected).abs() < 1e-4, "{mean} {expected}");

    let none = GenerateRequest { logprobs: None, ..request.clone() };
    assert!(logprobs(&mut runtime, none).await.0.is_empty());
    let bare = GenerateRequest { logprobs: Some(0), ..request.clone() };
    assert!(logprobs(&mut runtime, bare).await.0.iter().all(|token| token.top.is_empty()));
    let problem = runtime.answer(GenerateRequest { logprobs: Some(21), ..request }).await.unwrap_err();
    assert_eq!(problem.reason, reason::BAD_REQUEST);
}

#[tokio::test]
async fn options_that_leave_one_candidate_are_greedy() {
    let mut runtime = with_sequences(1).await;
    let greedy = runtime.bare("What do bees make?", "").await;
    let hot = Sampling { temperature: 5.0, seed: Some(3), ..Sampling::default() };
    for sampling in [Sampling { top_k: 1, ..hot }, Sampling { min_p: 1.0, ..hot }] {
        let request = GenerateRequest { sampling: Some(sampling), ..bare_turn("What do bees make?", "") };
        assert_eq!(runtime.answer(request).await.unwrap().text, greedy);
    }
    let request = GenerateRequest { sampling: Some(hot), ..bare_turn("What do bees make?", "") };
    assert_ne!(runtime.answer(request).await.unwrap().text, greedy);
    let frequency = Sampling { frequency_penalty: 2.0, presence_penalty: 2.0, ..Sampling::default() };
    let request = GenerateRequest { sampling: Some(frequency), ..bare_turn("What do bees make?", "") };
    assert_ne!(runtime.answer(request).await.unwrap().text, greedy);
}

#[tokio::test]
async fn an_answer_held_to_a_schema_is_that_json() {
    let mut runtime = with_sequences(2).await;
    let schema = r#"{"type":"object","properties":{"city":{"type":"string","maxLength":20},
        "sure":{"type":"boolean"}},"required":["city","sure"],"additionalProperties":false}"#;
    let request = |schema: &str| GenerateRequest {
        constraint: Some(Constraint::JsonSchema(schema.into())),
        max_tokens: 100,
        ..bare_turn(FRANCE, "")
    };
    let random = GenerateRequest {
        sampling: Some(Sampling { temperature: 2.0, seed: Some(1), ..Sampling::default() }),
        ..request(schema)
    };
    for answer in at_once(&mut runtime, vec![request(schema), random]).await {
        let value: serde_json::Value = serde_json::from_str(&answer.text).expect(&answer.text);
        assert!(value["city"].is_string() && value["sure"].is_boolean(), "{value}");
        assert_eq!(answer.finished.reason, "stop");
    }
    let problem = runtime.answer(request("{\"type\": 3}")).await.unwrap_err();
    assert_eq!(problem.reason, reason::CONSTRAINT_INVALID);
    let grammar = Some(Constraint::Grammar("start: \"yes\" | \"no\"".into()));
    let answer = runtime.answer(GenerateRequest { constraint: grammar, ..request("") }).await.unwrap();
    assert!(["yes", "no"].contains(&answer.text.as_str()), "{}", answer.text);
}

#[tokio::test]
async fn a_dropped_call_frees_its_sequence_for_the_next() {
    let mut runtime = with_sequences(1).await;
    let endless = GenerateRequest {
        input: Some(Input::Raw("1, 2, 3, 4, 5, 6, 7, 8, 9,".into())),
        ..GenerateRequest::default()
    };
    let mut stream = runtime.stream(endless.clone()).await.unwrap();
    while !matches!(stream.message().await.unwrap().unwrap().event, Some(Event::Delta(_))) {}
    assert_eq!(runtime.health().await.active, 1);
    drop(stream);
    // The prompt of this one is dropped before it is computed.
    drop(runtime.stream(long_turn(&"word ".repeat(300), "")).await.unwrap());
    assert_eq!(runtime.bare(FRANCE, "").await, "The capital of France is Paris.");
    let health = runtime.health().await;
    assert!(health.tokens_generated < 400, "{health:?}");
}
