//! Which models make vectors: what their file declares, and what the one who loads them wants.

use std::path::{Path, PathBuf};

use synesis_proto::reason;
use synesis_proto::runtime::v1::Embeddings;
use synesis_runtime::gguf;
use tempfile::TempDir;
use tonic::Code;

use crate::support::{Runtime, SMOL, model, text};
use crate::{bits, embed, load};

const U32: u32 = 4;
const STRING: u32 = 8;

/// A copy of SmolLM2 that says one thing more about itself.
fn declaring(folder: &TempDir, key: &str, value: u32) -> PathBuf {
    let original = model(SMOL);
    let bytes = std::fs::read(&original).unwrap();
    let header = gguf::open(Path::new(&original)).unwrap().header;
    assert!(header.value(key).is_none(), "{key} is new");
    let entry = |key: &str, kind: u32, value: &[u8]| [&sized(key), &kind.to_le_bytes()[..], value].concat();
    let mut more = entry(key, U32, &value.to_le_bytes());
    // The data begins at a multiple of 32, which has to stay one.
    let bare = more.len() + entry("test.filler", STRING, &sized("")).len();
    let filler = "x".repeat(bare.next_multiple_of(32) - bare);
    more.extend(entry("test.filler", STRING, &sized(&filler)));
    let mut count = u64::from_le_bytes(*bytes[16..].first_chunk().unwrap());
    count += 2;
    let copy = [&bytes[..16], &count.to_le_bytes(), &more, &bytes[24..]].concat();
    let path = folder.path().join(format!("{key}-{value}.gguf"));
    std::fs::write(&path, copy).unwrap();
    path
}

fn sized(text: &str) -> Vec<u8> {
    [(text.len() as u64).to_le_bytes().to_vec(), text.as_bytes().to_vec()].concat()
}

#[tokio::test]
async fn a_model_that_declares_nothing_makes_none_and_the_refusal_names_the_key() {
    let mut runtime = Runtime::with_smol().await;
    let problem = embed(&mut runtime, &["a"]).await.unwrap_err();
    assert_eq!((problem.code, problem.reason.as_str()), (Code::FailedPrecondition, reason::NO_EMBEDDINGS));
    assert!(problem.next_step.contains("model.embeddings"), "{problem}");
}

#[tokio::test]
async fn a_declared_pooling_is_used_unless_somebody_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let mut runtime = Runtime::start().await;
    let mut wanted = Vec::new();
    for way in [Embeddings::Mean, Embeddings::Last] {
        load(&mut runtime, &model(SMOL), way).await.unwrap();
        wanted.push(bits(&embed(&mut runtime, &["Bees make honey."]).await.unwrap()[0]));
    }
    let [mean, last] = wanted.try_into().unwrap();
    for (number, expected) in [(1, Some(&mean)), (3, Some(&last)), (2, None)] {
        let path = text(&declaring(&folder, "llama.pooling_type", number));
        let info = load(&mut runtime, &path, Embeddings::Auto).await.unwrap();
        assert_eq!((info.makes_embeddings, info.embeddings_only, info.embedding_width), (true, false, 576));
        let made = bits(&embed(&mut runtime, &["Bees make honey."]).await.unwrap()[0]);
        match expected {
            Some(expected) => assert_eq!(made, *expected, "pooling {number}"),
            None => assert!(made != mean && made != last, "the first token's"),
        }
        load(&mut runtime, &path, Embeddings::Last).await.unwrap();
        assert_eq!(bits(&embed(&mut runtime, &["Bees make honey."]).await.unwrap()[0]), last);
        let info = load(&mut runtime, &path, Embeddings::Off).await.unwrap();
        assert_eq!((info.makes_embeddings, info.embedding_width), (false, 0));
        assert_eq!(embed(&mut runtime, &["a"]).await.unwrap_err().reason, reason::NO_EMBEDDINGS);
    }
}

#[tokio::test]
async fn a_reranker_and_one_that_promises_vectors_it_does_not_make_have_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut runtime = Runtime::start().await;
    for (key, value, way) in [
        ("llama.pooling_type", 0, Embeddings::Auto),
        ("llama.pooling_type", 4, Embeddings::Auto),
        // llama.cpp would read that many numbers per token.
        ("llama.embedding_length_out", 4096, Embeddings::Mean),
        ("llama.embedding_length_out", 64, Embeddings::Mean),
    ] {
        let info = load(&mut runtime, &text(&declaring(&folder, key, value)), way).await.unwrap();
        assert!(!info.makes_embeddings, "{key} = {value}");
        let problem = embed(&mut runtime, &["a"]).await.unwrap_err();
        assert_eq!(problem.reason, reason::NO_EMBEDDINGS, "{key} = {value}");
        assert_eq!(
            runtime.bare("What is the capital of France?", "").await,
            "The capital of France is Paris."
        );
    }
    let problem =
        load(&mut runtime, &text(&declaring(&folder, "llama.pooling_type", 5)), Embeddings::Mean).await;
    assert_eq!(problem.unwrap_err().reason, reason::MODEL_INVALID);
}
