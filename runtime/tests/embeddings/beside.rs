//! Answers beside vectors: neither notices the other.

use futures_util::future::join_all;
use synesis_proto::runtime::v1::{Embeddings, GenerateRequest, LoadModelRequest};

use crate::support::{Runtime, SMOL, adapter, bare_turn, collect, model};
use crate::{bits, embed, request};

const PROMPTS: [&str; 4] =
    ["What is the capital of France?", "Who wrote Hamlet?", "What do bees make?", "Name a primary color."];

async fn with_sequences() -> Runtime {
    let mut runtime = Runtime::start().await;
    let request = LoadModelRequest {
        path: model(SMOL),
        parallel: 4,
        context_tokens: 512,
        embeddings: Embeddings::Mean.into(),
        ..LoadModelRequest::default()
    };
    runtime.load_with(request).await.unwrap();
    runtime.load_adapter("json", &adapter("json")).await.unwrap();
    runtime
}

fn turns() -> Vec<GenerateRequest> {
    let turn = |number: usize| GenerateRequest {
        max_tokens: 40,
        ..bare_turn(PROMPTS[number % 4], ["", "json"][number / 4])
    };
    (0..8).map(turn).collect()
}

#[tokio::test]
async fn answers_are_the_same_bit_for_bit_while_vectors_are_made_and_so_are_the_vectors() {
    let mut runtime = with_sequences().await;
    let texts: Vec<String> = (1..20).map(|count| "all work and no play ".repeat(count)).collect();
    let quiet_vectors = embed(&mut runtime, &texts).await.unwrap();
    let mut quiet = Vec::new();
    for turn in turns() {
        quiet.push(runtime.answer(turn).await.unwrap());
    }
    let mut streams = Vec::new();
    for turn in turns() {
        streams.push(runtime.stream(turn).await.unwrap());
    }
    let answers = join_all(streams.into_iter().map(collect));
    let mut client = runtime.client.clone();
    let vectors = async {
        let mut rounds = Vec::new();
        for _ in 0..3 {
            rounds.push(client.embed(request(&texts)).await.unwrap().into_inner().embeddings);
        }
        rounds
    };
    let (answers, rounds) = tokio::join!(answers, vectors);
    for (one, other) in quiet.iter().zip(answers) {
        let other = other.unwrap();
        assert_eq!(one.text, other.text);
        assert_eq!(one.finished.mean_logprob.to_bits(), other.finished.mean_logprob.to_bits());
    }
    for round in rounds {
        for (one, other) in quiet_vectors.iter().zip(&round) {
            assert_eq!(bits(one), bits(other));
        }
    }
    let health = runtime.health().await;
    assert_eq!((health.active, health.queued), (0, 0));
}

/// The vectors are all those of one request, so they are done at once and late; the answer that came after it is not
/// held up until then.
#[tokio::test]
async fn a_long_request_for_vectors_does_not_hold_an_answer_up() {
    let mut runtime = with_sequences().await;
    let texts = vec!["word ".repeat(500); 64];
    let mut client = runtime.client.clone();
    let vectors = client.embed(request(&texts));
    tokio::pin!(vectors);
    let answer = async {
        while !runtime.health().await.busy {
            tokio::task::yield_now().await;
        }
        runtime.answer(GenerateRequest { max_tokens: 8, ..bare_turn(PROMPTS[0], "") }).await.unwrap()
    };
    tokio::select! {
        biased;
        answer = answer => assert!(answer.text.starts_with("The capital of France"), "{}", answer.text),
        vectors = &mut vectors => assert!(vectors.is_err(), "the answer waited for 64 long texts"),
    }
    assert!(runtime.health().await.busy, "the vectors are still being made");
}

#[tokio::test]
async fn a_dropped_call_ends_the_work_and_the_next_one_is_served() {
    let mut runtime = with_sequences().await;
    {
        let texts = vec!["word ".repeat(500); 256];
        let mut client = runtime.client.clone();
        let abandoned = client.embed(request(&texts));
        let begun = async {
            while !runtime.health().await.busy {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = begun => {}
            ended = abandoned => assert!(ended.is_err(), "256 long texts are not done at once"),
        }
    }
    while runtime.health().await.busy {
        tokio::task::yield_now().await;
    }
    assert_eq!(runtime.health().await.queued, 0);
    assert_eq!(embed(&mut runtime, &["one", "two"]).await.unwrap().len(), 2);
}
