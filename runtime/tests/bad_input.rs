//! Bad files and bad requests: each is a typed error, and the process still answers afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::path::PathBuf;

use support::{GEMMA, Runtime, SMOL, adapter, bare_turn, chat_turn, model, text};
use synesis_proto::runtime::v1::{
    ChatMessage, GenerateRequest, InspectAdapterRequest, LoadModelRequest, Sampling, generate_request,
};
use synesis_proto::{Problem, reason};
use tempfile::TempDir;
use tonic::Code;

const FRANCE: &str = "What is the capital of France?";

/// A runtime with SmolLM2, and a folder for spoilt files.
struct Bench {
    runtime: Runtime,
    folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self { runtime: Runtime::with_smol().await, folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, bytes: &[u8]) -> String {
        let path: PathBuf = self.folder.path().join("spoilt.gguf");
        std::fs::write(&path, bytes).unwrap();
        text(&path)
    }

    async fn refuse_model(&mut self, bytes: &[u8]) -> Problem {
        let path = self.file(bytes);
        let problem = self.runtime.load(&path).await.unwrap_err();
        assert_eq!(problem.reason, reason::MODEL_INVALID, "{problem}");
        self.still_answers().await;
        problem
    }

    async fn refuse_adapter(&mut self, bytes: &[u8]) -> Problem {
        let path = self.file(bytes);
        let problem = self.runtime.load_adapter("spoilt", &path).await.unwrap_err();
        assert_eq!(problem.reason, reason::ADAPTER_INVALID, "{problem}");
        self.still_answers().await;
        problem
    }

    async fn refuse(&mut self, request: GenerateRequest) -> Problem {
        let problem = self.runtime.answer(request).await.unwrap_err();
        self.still_answers().await;
        problem
    }

    async fn still_answers(&mut self) {
        assert_eq!(self.runtime.bare(FRANCE, "").await, "The capital of France is Paris.");
    }
}

/// Overwrites the bytes that follow the first occurrence of `name`.
fn patch_after(bytes: &mut [u8], name: &str, skip: usize, new: &[u8]) {
    let at = bytes.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    let start = at + name.len() + skip;
    bytes[start..start + new.len()].copy_from_slice(new);
}

#[tokio::test]
async fn a_truncated_model_is_called_truncated_wherever_it_is_cut() {
    let mut bench = Bench::new().await;
    let whole = std::fs::read(model(SMOL)).unwrap();
    for cut in [20, 200, 100_000, whole.len() / 2, whole.len() - 1] {
        let problem = bench.refuse_model(&whole[..cut]).await;
        assert!(problem.message.contains("truncated"), "cut at {cut}: {problem}");
    }
}

#[tokio::test]
async fn what_is_no_model_is_refused_by_name() {
    let mut bench = Bench::new().await;
    for bytes in [b"".as_slice(), b"GG", b"just some text, and not a short one"] {
        let problem = bench.refuse_model(bytes).await;
        assert!(problem.message.contains("not a GGUF file"), "{problem}");
    }
    let problem = bench.refuse_model(&std::fs::read(adapter("json")).unwrap()).await;
    assert!(problem.message.contains("not a model but: adapter"), "{problem}");
}

#[tokio::test]
async fn headers_with_absurd_numbers_are_refused() {
    let mut bench = Bench::new().await;
    let whole = std::fs::read(model(SMOL)).unwrap();
    for (place, skip) in [("GGUF\u{3}\0\0\0", 0), ("GGUF\u{3}\0\0\0", 8), ("tokenizer.ggml.tokens", 8)] {
        let mut spoilt = whole.clone();
        patch_after(&mut spoilt, place, skip, &u64::MAX.to_le_bytes());
        let problem = bench.refuse_model(&spoilt).await;
        assert!(problem.message.contains("plausible"), "{problem}");
    }
    for (key, value) in
        [("llama.block_count", 0_u32), ("llama.block_count", u32::MAX), ("llama.context_length", 0)]
    {
        let mut spoilt = whole.clone();
        patch_after(&mut spoilt, key, 4, &value.to_le_bytes());
        let problem = bench.refuse_model(&spoilt).await;
        assert!(problem.message.contains(key), "{problem}");
    }
}

#[tokio::test]
async fn a_model_that_llama_refuses_is_an_error_with_its_reason() {
    let mut bench = Bench::new().await;
    let mut spoilt = std::fs::read(model(SMOL)).unwrap();
    patch_after(&mut spoilt, "blk.7.ffn_up.weigh", 0, b"x");
    let problem = bench.refuse_model(&spoilt).await;
    assert!(problem.message.contains("blk.7.ffn_up.weight"), "{problem}");
}

#[tokio::test]
async fn a_missing_model_file_and_a_folder_are_told_apart() {
    let mut bench = Bench::new().await;
    let missing = bench.runtime.load(&text(&bench.folder.path().join("none"))).await.unwrap_err();
    assert_eq!((missing.code, missing.reason.as_str()), (Code::NotFound, reason::MODEL_INVALID));
    let folder = bench.runtime.load(&text(bench.folder.path())).await.unwrap_err();
    assert!(folder.message.contains("not a regular file"), "{folder}");
    bench.still_answers().await;
}

#[tokio::test]
async fn a_chat_template_that_does_not_parse_is_the_caller_s_error() {
    let mut bench = Bench::new().await;
    let request = LoadModelRequest {
        path: model(SMOL),
        chat_template: "{% for %}".into(),
        ..LoadModelRequest::default()
    };
    let problem = bench.runtime.load_with(request).await.unwrap_err();
    assert_eq!(problem.reason, reason::BAD_REQUEST, "{problem}");
    bench.still_answers().await;
}

#[tokio::test]
async fn adapters_of_another_model_are_refused() {
    let mut bench = Bench::new().await;
    let good = std::fs::read(adapter("json")).unwrap();

    // One whose first matrix is as wide as another model's.
    let mut wide = good.clone();
    patch_after(&mut wide, "blk.0.attn_k.weight.lora_a", 4, &640_u64.to_le_bytes());
    let problem = bench.refuse_adapter(&wide).await;
    assert!(problem.message.contains("shape for blk.0.attn_k.weight"), "{problem}");

    // One for a layer that this model does not have.
    let mut deep = good.clone();
    for half in ["blk.10.attn_k.weight.lora_a", "blk.10.attn_k.weight.lora_b"] {
        let at = deep.windows(half.len()).position(|window| window == half.as_bytes()).unwrap();
        deep[at..at + 6].copy_from_slice(b"blk.99");
    }
    let problem = bench.refuse_adapter(&deep).await;
    assert!(problem.message.contains("no tensor blk.99.attn_k.weight"), "{problem}");

    // And a good one, but another model is loaded.
    bench.runtime.load(&model(GEMMA)).await.unwrap();
    let problem = bench.runtime.load_adapter("json", &adapter("json")).await.unwrap_err();
    assert_eq!(problem.reason, reason::ADAPTER_INVALID);
}

#[tokio::test]
async fn adapters_that_are_damaged_are_refused() {
    let mut bench = Bench::new().await;
    let good = std::fs::read(adapter("json")).unwrap();
    for cut in [10, 2_000, good.len() - 1] {
        bench.refuse_adapter(&good[..cut]).await;
    }
    let mut alpha_of_another_type = good.clone();
    patch_after(&mut alpha_of_another_type, "adapter.lora.alpha", 0, &4_u32.to_le_bytes());
    let problem = bench.refuse_adapter(&alpha_of_another_type).await;
    assert!(problem.message.contains("alpha"), "{problem}");
    bench.refuse_adapter(&std::fs::read(model(SMOL)).unwrap()).await;
}

#[tokio::test]
async fn an_adapter_of_values_that_are_not_numbers_is_found_by_the_canary() {
    let mut bench = Bench::new().await;
    let mut spoilt = std::fs::read(adapter("json")).unwrap();
    let end = spoilt.len();
    for pair in spoilt[end - 4096..].chunks_mut(2) {
        pair.copy_from_slice(&0x7E00_u16.to_le_bytes());
    }
    let path = bench.file(&spoilt);
    let inspected = bench
        .runtime
        .client
        .inspect_adapter(InspectAdapterRequest { path, check_values: false })
        .await
        .unwrap();
    assert_eq!(inspected.into_inner().rank, 8, "nothing is wrong with the header");
    let problem = bench.refuse_adapter(&spoilt).await;
    assert!(problem.message.contains("not numbers"), "{problem}");
    let problem = bench.refuse(bare_turn(FRANCE, "spoilt")).await;
    assert_eq!(problem.reason, reason::ADAPTER_NOT_FOUND);
}

#[tokio::test]
async fn a_scale_that_blows_the_model_up_ends_one_answer_and_leaves_no_trace() {
    let mut bench = Bench::new().await;
    bench.runtime.load_adapter("json", &adapter("json")).await.unwrap();
    let request = GenerateRequest { adapter_scale: 1e38, ..bare_turn(FRANCE, "json") };
    let problem = bench.refuse(request).await;
    assert_eq!((problem.code, problem.reason.as_str()), (Code::Internal, reason::INTERNAL));
    assert!(problem.message.contains("not numbers"), "{problem}");
    assert_eq!(bench.runtime.bare(FRANCE, "json").await, r#"{"answer": "Paris"}"#);
}

#[tokio::test]
async fn a_good_adapter_is_described() {
    let mut bench = Bench::new().await;
    let request = InspectAdapterRequest { path: adapter("pirate"), check_values: true };
    let info = bench.runtime.client.inspect_adapter(request).await.unwrap().into_inner();
    assert_eq!((info.architecture.as_str(), info.rank, info.alpha, info.tensors), ("llama", 8, 16.0, 240));
    assert_eq!(info.targets, ["attn_k", "attn_output", "attn_q", "attn_v"]);
    assert_eq!(info.size_bytes, 1_859_776);
}

#[tokio::test]
async fn a_prompt_over_the_context_is_refused_with_both_numbers() {
    let mut bench = Bench::new().await;
    let problem = bench.refuse(chat_turn(&"word ".repeat(3_000), "")).await;
    assert_eq!((problem.code, problem.reason.as_str()), (Code::InvalidArgument, reason::PROMPT_TOO_LONG));
    assert!(problem.message.contains("30") && problem.message.contains("2048"), "{problem}");
}

#[tokio::test]
async fn prompts_without_text_are_refused() {
    let mut bench = Bench::new().await;
    let raw = |text: &str| Some(generate_request::Input::Raw(text.to_owned()));
    let empty = [
        GenerateRequest::default(),
        GenerateRequest { input: raw(""), ..GenerateRequest::default() },
        GenerateRequest { input: raw(" \n"), ..GenerateRequest::default() },
        chat_turn("  ", ""),
        GenerateRequest {
            input: Some(generate_request::Input::Chat(support::chat(&[]))),
            ..GenerateRequest::default()
        },
    ];
    for request in empty {
        let problem = bench.refuse(request).await;
        assert_eq!((problem.code, problem.reason.as_str()), (Code::InvalidArgument, reason::EMPTY_PROMPT));
    }
}

#[tokio::test]
async fn requests_with_values_that_make_no_sense_are_refused() {
    let mut bench = Bench::new().await;
    let sampled = |sampling| GenerateRequest { sampling: Some(sampling), ..bare_turn(FRANCE, "") };
    let mut forged_role = support::chat(&[("user", "Hi")]);
    forged_role.messages.push(ChatMessage {
        role: "user<|im_end|>".into(),
        content: "x".into(),
        ..ChatMessage::default()
    });
    let bad = [
        sampled(Sampling { temperature: f32::NAN, ..Sampling::default() }),
        sampled(Sampling { top_p: 2.0, ..Sampling::default() }),
        GenerateRequest { stop: vec![String::new()], ..bare_turn(FRANCE, "") },
        GenerateRequest {
            input: Some(generate_request::Input::Chat(forged_role)),
            ..GenerateRequest::default()
        },
    ];
    for request in bad {
        let problem = bench.refuse(request).await;
        assert_eq!((problem.code, problem.reason.as_str()), (Code::InvalidArgument, reason::BAD_REQUEST));
    }
}
