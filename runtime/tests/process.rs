//! The process itself: order of requests, cancellation, leaving, and being started by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::process::Stdio;

use support::{PATIENCE, Runtime, bare_turn, chat_turn, collect};
use synesis_proto::reason;
use synesis_proto::runtime::v1::generate_event::Event;
use synesis_proto::runtime::v1::{
    CountTokensRequest, GenerateRequest, LoadModelRequest, count_tokens_request,
};
use tokio::process::Command;
use tokio::time::timeout;
use tonic::{Code, Streaming};

/// An answer that goes on to the end of the context: greedy, and the end of the turn is made unlikely by the
/// prompt.
fn endless() -> GenerateRequest {
    GenerateRequest {
        input: Some(synesis_proto::runtime::v1::generate_request::Input::Raw(
            "1, 2, 3, 4, 5, 6, 7, 8, 9,".into(),
        )),
        ..GenerateRequest::default()
    }
}

async fn with_queue(queue: u32) -> Runtime {
    let mut runtime = Runtime::start().await;
    let path = support::model(support::SMOL);
    runtime.load_with(LoadModelRequest { path, queue, ..LoadModelRequest::default() }).await.unwrap();
    runtime
}

async fn until_first_delta(stream: &mut Streaming<support::GenerateEventMessage>) {
    loop {
        let message = stream.message().await.unwrap().expect("the answer goes on");
        if matches!(message.event, Some(Event::Delta(_))) {
            return;
        }
    }
}

#[tokio::test]
async fn two_requests_at_once_are_both_answered() {
    let mut runtime = Runtime::with_smol().await;
    let first = runtime.stream(bare_turn("What is the capital of France?", "")).await.unwrap();
    let second = runtime.stream(bare_turn("Who wrote Hamlet?", "")).await.unwrap();
    let (first, second) = tokio::join!(collect(first), collect(second));
    assert_eq!(first.unwrap().text, "The capital of France is Paris.");
    assert!(second.unwrap().text.starts_with("The Bard of Hamlet"));
}

#[tokio::test]
async fn dropping_a_call_cancels_it_and_the_next_is_answered() {
    let mut runtime = Runtime::with_smol().await;
    let mut stream = runtime.stream(endless()).await.unwrap();
    until_first_delta(&mut stream).await;
    assert!(runtime.health().await.busy);
    drop(stream);
    assert_eq!(runtime.bare("What is the capital of France?", "").await, "The capital of France is Paris.");
    let generated = runtime.health().await.tokens_generated;
    assert!(generated < 500, "{generated} tokens: the dropped answer went on");
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_so() {
    let mut runtime = with_queue(8).await;
    let mut running = runtime.stream(endless()).await.unwrap();
    until_first_delta(&mut running).await;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(runtime.stream(bare_turn("Hi", "")).await.unwrap());
    }
    assert_eq!(runtime.health().await.queued, 8);
    let problem = runtime.answer(bare_turn("Hi", "")).await.unwrap_err();
    assert_eq!((problem.code, problem.reason.as_str()), (Code::ResourceExhausted, reason::BUSY));
    assert!(problem.retry_after.is_some_and(|time| !time.is_zero()), "{problem:?}");
    assert!(runtime.health().await.expected_wait_ms > 0);
    drop(running);
    for stream in waiting {
        collect(stream).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_dropped_while_it_waits_is_never_run() {
    let mut runtime = Runtime::with_smol().await;
    let mut running = runtime.stream(endless()).await.unwrap();
    until_first_delta(&mut running).await;
    let waiting = runtime.stream(endless()).await.unwrap();
    drop(waiting);
    drop(running);
    let answer = runtime.answer(GenerateRequest { max_tokens: 2, ..bare_turn("Hi", "") }).await.unwrap();
    assert_eq!(answer.finished.output_tokens, 2);
    let generated = runtime.health().await.tokens_generated;
    assert!(generated < 500, "{generated} tokens: a dropped answer was generated");
}

#[tokio::test]
async fn tokens_are_counted_while_an_answer_is_generated() {
    let mut runtime = Runtime::with_smol().await;
    let mut running = runtime.stream(endless()).await.unwrap();
    until_first_delta(&mut running).await;
    let input = Some(count_tokens_request::Input::Raw("Hello there".into()));
    let reply = runtime.client.count_tokens(CountTokensRequest { input }).await.unwrap().into_inner();
    assert_eq!((reply.tokens, reply.context_tokens), (2, 2048));
    assert!(runtime.health().await.busy, "the answer still runs");
}

#[tokio::test]
async fn the_process_leaves_when_the_parent_s_end_closes() {
    let Runtime { client, mut child } = Runtime::with_smol().await;
    drop(client);
    let status = timeout(PATIENCE, child.wait()).await.expect("it leaves").unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn the_process_leaves_in_the_middle_of_an_answer() {
    let mut runtime = Runtime::with_smol().await;
    let mut stream = runtime.stream(endless()).await.unwrap();
    until_first_delta(&mut stream).await;
    let Runtime { client, mut child } = runtime;
    drop((client, stream));
    let status = timeout(PATIENCE, child.wait()).await.expect("it leaves").unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn health_answers_before_and_after_a_model_is_loaded() {
    let mut runtime = Runtime::start().await;
    let before = runtime.health().await;
    assert!(!before.model_loaded && !before.busy && before.resident_bytes > 0);
    let problem = runtime.answer(chat_turn("Hi", "")).await.unwrap_err();
    assert_eq!((problem.code, problem.reason.as_str()), (Code::FailedPrecondition, reason::NO_MODEL));
    runtime.load(&support::model(support::SMOL)).await.unwrap();
    assert_eq!(runtime.bare("What is the capital of France?", "").await, "The capital of France is Paris.");
    let after = runtime.health().await;
    assert!(after.model_loaded && after.resident_bytes > before.resident_bytes);
    assert_eq!(after.tokens_generated, 7);
}

#[tokio::test]
async fn started_by_hand_it_says_what_it_is() {
    let run = |argument: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_synesis-runtime"));
        command.args(argument).stdin(Stdio::null()).output()
    };
    let by_hand = run(None).await.unwrap();
    assert_eq!(by_hand.status.code(), Some(64));
    let said = String::from_utf8_lossy(&by_hand.stderr).into_owned();
    assert!(said.contains("standard input is not a connected socket"), "{said}");
    assert_eq!(run(Some("--wrong")).await.unwrap().status.code(), Some(64));
    let version = run(Some("--version")).await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&version.stdout),
        concat!("synesis-runtime ", env!("CARGO_PKG_VERSION"), "\n")
    );
}
