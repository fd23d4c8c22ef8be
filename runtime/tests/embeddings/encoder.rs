//! A model that only makes vectors. None is at hand that is small enough for a test, so this one is made here: a BERT of
//! two layers whose weights are noise. What its vectors mean is nothing; that they are computed as a BERT's is the point.

use std::path::Path;

use synesis_proto::reason;
use synesis_proto::runtime::v1::{Embeddings, GenerateRequest, generate_request};
use synesis_runtime::gguf::{Header, TensorType};
use tempfile::TempDir;
use tonic::Code;

use crate::support::{Runtime, bare_turn, model, text};
use crate::{bits, embed, length, load};

#[path = "../../src/gguf/fixture.rs"]
#[allow(dead_code, reason = "the fixture writes more than a BERT needs")]
mod fixture;

const WIDTH: u64 = 32;
const WINDOW: u32 = 64;
const WORDS: [&str; 12] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁bees", "▁make", "▁honey", "▁rain", "▁is", "▁wet", "▁the",
];

/// The file, declaring this pooling; its norms are `norm`.
fn bert(pooling: Option<u32>, norm: f32) -> Vec<u8> {
    let mut file = fixture::GgufFile::default()
        .text("general.architecture", "bert")
        .u32("bert.block_count", 2)
        .u32("bert.context_length", WINDOW)
        .u32("bert.embedding_length", WIDTH as u32)
        .u32("bert.feed_forward_length", 64)
        .u32("bert.attention.head_count", 2)
        .f32("bert.attention.layer_norm_epsilon", 1e-12)
        .flag("bert.attention.causal", false)
        .text("tokenizer.ggml.model", "bert")
        .texts("tokenizer.ggml.tokens", &WORDS)
        .u32("tokenizer.ggml.token_type_count", 2)
        .u32("tokenizer.ggml.padding_token_id", 0)
        .u32("tokenizer.ggml.unknown_token_id", 1)
        .u32("tokenizer.ggml.bos_token_id", 2)
        .u32("tokenizer.ggml.cls_token_id", 2)
        .u32("tokenizer.ggml.seperator_token_id", 3)
        .u32("tokenizer.ggml.mask_token_id", 4);
    if let Some(pooling) = pooling {
        file = file.u32("bert.pooling_type", pooling);
    }
    let tensors: Vec<(String, Vec<u64>)> = [
        ("token_embd.weight", vec![WIDTH, WORDS.len() as u64]),
        ("token_types.weight", vec![WIDTH, 2]),
        ("position_embd.weight", vec![WIDTH, WINDOW.into()]),
        ("token_embd_norm.weight", vec![WIDTH]),
        ("token_embd_norm.bias", vec![WIDTH]),
    ]
    .map(|(name, shape)| (name.to_owned(), shape))
    .into_iter()
    .chain((0..2).flat_map(|block| {
        [
            ("attn_q.weight", vec![WIDTH, WIDTH]),
            ("attn_k.weight", vec![WIDTH, WIDTH]),
            ("attn_v.weight", vec![WIDTH, WIDTH]),
            ("attn_output.weight", vec![WIDTH, WIDTH]),
            ("attn_output_norm.weight", vec![WIDTH]),
            ("attn_output_norm.bias", vec![WIDTH]),
            ("ffn_up.weight", vec![WIDTH, 64]),
            ("ffn_down.weight", vec![64, WIDTH]),
            ("layer_output_norm.weight", vec![WIDTH]),
            ("layer_output_norm.bias", vec![WIDTH]),
        ]
        .map(|(name, shape)| (format!("blk.{block}.{name}"), shape))
    }))
    .collect();
    for (name, shape) in &tensors {
        file = file.tensor(name, shape, TensorType::F32);
    }
    let mut bytes = file.bytes();
    fill(&mut bytes, norm);
    bytes
}

/// Noise for weights, from a generator that always says the same.
fn fill(bytes: &mut [u8], norm: f32) {
    let header = Header::read(&*bytes, bytes.len() as u64).unwrap();
    let mut state = 7_u32;
    for (name, tensor) in header.tensors() {
        let start = usize::try_from(header.data_start() + tensor.offset).unwrap();
        let values = &mut bytes[start..start + usize::try_from(tensor.bytes).unwrap()];
        for value in values.chunks_exact_mut(4) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (f64::from(state) / f64::from(u32::MAX) - 0.5) as f32;
            let number = if name.ends_with("norm.weight") { norm } else { noise };
            value.copy_from_slice(&number.to_le_bytes());
        }
    }
}

fn written(folder: &TempDir, bytes: &[u8]) -> String {
    let path = folder.path().join("bert.gguf");
    std::fs::write(&path, bytes).unwrap();
    text(Path::new(&path))
}

#[tokio::test]
async fn an_encoder_makes_vectors_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut runtime = Runtime::start().await;
    let mut ways = Vec::new();
    // Without a declaration it is the mean.
    for pooling in [None, Some(1), Some(2), Some(3)] {
        let info =
            load(&mut runtime, &written(&folder, &bert(pooling, 1.0)), Embeddings::Auto).await.unwrap();
        assert_eq!((info.makes_embeddings, info.embeddings_only, info.embedding_width), (true, true, 32));
        assert_eq!((info.architecture.as_str(), info.context_tokens), ("bert", WINDOW));
        let texts = ["bees make honey", "the rain is wet", "honey make bees", "rain"];
        let together = embed(&mut runtime, &texts).await.unwrap();
        for (text, vector) in texts.iter().zip(&together) {
            assert!((length(vector) - 1.0).abs() < 1e-5);
            assert_eq!(vector.tokens, 2 + text.split(' ').count() as u32, "with [CLS] and [SEP]");
            assert_eq!(bits(&embed(&mut runtime, &[text]).await.unwrap()[0]), bits(vector), "{text} alone");
        }
        assert_ne!(bits(&together[0]), bits(&together[2]), "places count");
        ways.push(bits(&together[0]));
    }
    assert_eq!(ways[0], ways[1]);
    assert!(ways[1] != ways[2] && ways[2] != ways[3] && ways[1] != ways[3]);

    let problem = runtime.answer(bare_turn("hello", "")).await.unwrap_err();
    assert_eq!((problem.code, problem.reason.as_str()), (Code::FailedPrecondition, reason::UNSUPPORTED));
    assert!(problem.message.contains("writes no text"), "{problem}");
    let raw = Some(generate_request::Input::Raw("rain".into()));
    assert!(runtime.answer(GenerateRequest { input: raw, ..GenerateRequest::default() }).await.is_err());

    let long = |words: usize| "rain ".repeat(words);
    assert_eq!(embed(&mut runtime, &[long(62)]).await.unwrap()[0].tokens, WINDOW);
    let problem = embed(&mut runtime, &[long(3), long(63)]).await.unwrap_err();
    assert_eq!(problem.message, "input 1 takes 65 tokens and the model's window has 64");

    // And back to one that writes.
    runtime.load(&model(crate::support::SMOL)).await.unwrap();
    assert_eq!(runtime.bare("What is the capital of France?", "").await, "The capital of France is Paris.");
}

#[tokio::test]
async fn an_encoder_that_can_do_nothing_here_is_not_loaded_and_the_one_before_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut runtime = Runtime::with_smol().await;
    for (file, way, says) in [
        (bert(Some(4), 1.0), Embeddings::Auto, "neither writes text nor makes vectors"),
        (bert(Some(1), 1.0), Embeddings::Off, "neither writes text nor makes vectors"),
        (bert(Some(1), f32::NAN), Embeddings::Auto, "not numbers"),
        (bert(Some(1), f32::INFINITY), Embeddings::Mean, "not numbers"),
    ] {
        let problem = load(&mut runtime, &written(&folder, &file), way).await.unwrap_err();
        assert_eq!(problem.reason, reason::MODEL_INVALID);
        assert!(problem.message.contains(says), "{problem}");
        assert_eq!(
            runtime.bare("What is the capital of France?", "").await,
            "The capital of France is Paris."
        );
    }
}
