//! Vectors of texts through the real process: what they are, which models make them, and that nobody else notices.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod beside;
mod encoder;
mod files;
#[path = "../support/mod.rs"]
mod support;
mod vectors;

use support::{Runtime, SMOL, model};
use synesis_proto::Problem;
use synesis_proto::runtime::v1::{EmbedRequest, Embedding, Embeddings, LoadModelRequest, ModelInfo};

/// SmolLM2, told to make vectors in this way.
pub(crate) async fn with_smol(embeddings: Embeddings) -> Runtime {
    let mut runtime = Runtime::start().await;
    load(&mut runtime, &model(SMOL), embeddings).await.unwrap();
    runtime
}

pub(crate) async fn load(
    runtime: &mut Runtime,
    path: &str,
    embeddings: Embeddings,
) -> Result<ModelInfo, Problem> {
    let request = LoadModelRequest {
        path: path.to_owned(),
        embeddings: embeddings.into(),
        ..LoadModelRequest::default()
    };
    runtime.load_with(request).await
}

pub(crate) fn request(texts: &[impl AsRef<str>]) -> EmbedRequest {
    let inputs = texts.iter().map(|text| text.as_ref().to_owned()).collect();
    EmbedRequest { inputs, ..EmbedRequest::default() }
}

pub(crate) async fn embed(
    runtime: &mut Runtime,
    texts: &[impl AsRef<str>],
) -> Result<Vec<Embedding>, Problem> {
    let reply = runtime.client.embed(request(texts)).await;
    reply.map(|reply| reply.into_inner().embeddings).map_err(|status| Problem::from_status(&status))
}

/// The same numbers, bit for bit.
pub(crate) fn bits(embedding: &Embedding) -> Vec<u32> {
    embedding.values.iter().map(|value| value.to_bits()).collect()
}

pub(crate) fn length(embedding: &Embedding) -> f32 {
    embedding.values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

/// The cosine of the angle between two of length one.
pub(crate) fn likeness(one: &Embedding, other: &Embedding) -> f32 {
    one.values.iter().zip(&other.values).map(|(one, other)| one * other).sum()
}
