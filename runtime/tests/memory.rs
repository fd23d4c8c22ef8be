//! The estimate of a model's memory against what the process really takes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::{GEMMA, Runtime, SMOL, chat_turn, model};
use synesis_proto::reason;
use synesis_proto::runtime::v1::{
    EstimateModelRequest, GenerateRequest, LoadModelRequest, MemoryEstimate, generate_request,
};
use tonic::Code;

async fn estimate(runtime: &mut Runtime, file: &str, context_tokens: u32, parallel: u32) -> MemoryEstimate {
    let request = EstimateModelRequest { path: model(file), context_tokens, parallel, memory_limit_bytes: 0 };
    runtime.client.estimate_model(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn the_estimate_is_near_what_a_model_takes_once_its_window_is_full() {
    for file in [SMOL, GEMMA] {
        let mut runtime = Runtime::start().await;
        let before = runtime.health().await.resident_bytes;
        let estimated = estimate(&mut runtime, file, 2048, 1).await;
        let info = runtime
            .load_with(LoadModelRequest {
                path: model(file),
                context_tokens: 2048,
                parallel: 1,
                ..LoadModelRequest::default()
            })
            .await
            .unwrap();
        assert_eq!(info.memory_bytes, estimated.total);
        let long = GenerateRequest {
            input: Some(generate_request::Input::Raw("word ".repeat(1_500))),
            max_tokens: 2,
            ..GenerateRequest::default()
        };
        runtime.answer(long).await.unwrap();
        let taken = runtime.health().await.resident_bytes - before;
        println!("{file}: estimated {} MiB, takes {} MiB", estimated.total >> 20, taken >> 20);
        // Mapped weights that were never read are not resident, so the process may take less.
        assert!(taken < estimated.total + (16 << 20), "{file}: it takes {taken}, estimated {estimated:?}");
        assert!(taken * 3 / 2 > estimated.total, "{file}: it takes {taken}, estimated {estimated:?}");
    }
}

#[tokio::test]
async fn sequences_and_windows_cost_what_their_cache_takes() {
    let mut runtime = Runtime::start().await;
    let one = estimate(&mut runtime, SMOL, 2048, 1).await;
    let four = estimate(&mut runtime, SMOL, 2048, 4).await;
    // 30 layers, 3 heads of 64 numbers for keys and as many for values, two bytes each.
    assert_eq!(one.cache, 30 * 3 * 64 * 2 * 2 * 2048);
    assert_eq!(four.cache, 4 * one.cache);
    assert_eq!(
        (one.architecture.as_str(), one.context_tokens, one.trained_context_tokens),
        ("llama", 2048, 8192)
    );
    assert!(one.available > one.total);
}

#[tokio::test]
async fn a_model_that_does_not_fit_is_refused_with_the_numbers_and_the_old_one_stays() {
    let mut runtime = Runtime::with_smol().await;
    let request =
        LoadModelRequest { path: model(GEMMA), memory_limit_bytes: 300 << 20, ..LoadModelRequest::default() };
    let problem = runtime.load_with(request).await.unwrap_err();
    assert_eq!((problem.code, problem.reason.as_str()), (Code::ResourceExhausted, reason::MODEL_TOO_LARGE));
    for said in ["the model needs about", "weights", "cache", "the limit that is set"] {
        assert!(problem.message.contains(said), "{problem}");
    }
    assert!(problem.next_step.contains("smaller"), "{problem}");
    assert!(!runtime.answer(chat_turn("Hi", "")).await.unwrap().text.is_empty());
}

#[tokio::test]
async fn the_ceiling_of_the_command_line_holds_for_every_model() {
    let mut runtime = Runtime::start_with(&["--memory", "100000000"]).await;
    let problem = runtime.load(&model(SMOL)).await.unwrap_err();
    assert_eq!(problem.reason, reason::MODEL_TOO_LARGE);
}

#[tokio::test]
async fn a_model_loads_and_answers_within_a_limit_that_it_fits() {
    let mut runtime = Runtime::start().await;
    let request =
        LoadModelRequest { path: model(GEMMA), memory_limit_bytes: 600 << 20, ..LoadModelRequest::default() };
    runtime.load_with(request).await.unwrap();
    let raw = GenerateRequest {
        input: Some(generate_request::Input::Raw("The capital of France is".into())),
        max_tokens: 4,
        ..GenerateRequest::default()
    };
    assert!(!runtime.answer(raw).await.unwrap().text.is_empty());
}
