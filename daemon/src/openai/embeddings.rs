//! `POST /v1/embeddings`: vectors of texts, where the local model makes them. Nothing leaves the device.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use synesis_proto::runtime::v1::EmbedReply;

use super::body;
use super::error::ApiError;
use super::request::{self, EmbeddingsRequest, Encoding, RequestError};
use super::routes::{Service, json};
use crate::ipc::call::Call;
use crate::ipc::status;

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: Usage,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u32,
    total_tokens: u32,
}

/// The handler.
pub(super) async fn make(
    State(service): State<Service>,
    Extension(call): Extension<Call>,
    body: Body,
) -> Result<Response, ApiError> {
    let body = body::read(body).await?;
    let EmbeddingsRequest { texts, model, encoding, dimensions } =
        request::embeddings(&body, &service.names())?;
    tracing::debug!(request = %call.id, texts = texts.count(), "embedding");
    let handles = service.handles();
    // Before the work where it is known; a model that is still loading says it by its first vector.
    let known = handles.asker.model.status().borrow().info.as_ref().map(|info| info.embedding_width as usize);
    if let Some(width) = known.filter(|width| *width > 0) {
        check_width(dimensions, width)?;
    }
    let made = handles.asker.model.embed(texts.request(call.caller.uid));
    let made = tokio::select! {
        made = made => made.map_err(status::problem)?,
        () = handles.stopping.cancelled() => return Err(super::answer::stopped()),
    };
    if let Some(first) = made.embeddings.first() {
        check_width(dimensions, first.values.len())?;
    }
    Ok(json(&list(made, model, encoding)))
}

/// Vectors have the length that the model gives them: a part of one means nothing, unless the model was trained for it.
fn check_width(dimensions: Option<usize>, width: usize) -> Result<(), RequestError> {
    match dimensions {
        Some(dimensions) if dimensions != width => Err(RequestError::Dimensions { width }),
        _ => Ok(()),
    }
}

fn list(made: EmbedReply, model: String, encoding: Encoding) -> List {
    let tokens = made.embeddings.iter().map(|embedding| embedding.tokens).sum();
    let embedding = |(index, values): (usize, Vec<f32>)| Embedding {
        object: "embedding",
        index,
        embedding: match encoding {
            Encoding::Float => Vector::Numbers(values),
            Encoding::Base64 => {
                let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
                Vector::Base64(STANDARD.encode(bytes))
            }
        },
    };
    let values = made.embeddings.into_iter().map(|embedding| embedding.values);
    List {
        object: "list",
        data: values.enumerate().map(embedding).collect(),
        model,
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
    }
}

#[cfg(test)]
mod tests {
    use synesis_proto::runtime::v1 as runtime;

    use super::*;

    #[test]
    fn vectors_are_numbers_or_the_bytes_of_their_floats() {
        let made = EmbedReply { embeddings: vec![runtime::Embedding { values: vec![0.5, -1.0], tokens: 3 }] };
        let written =
            |encoding| serde_json::to_string(&list(made.clone(), "local".to_owned(), encoding)).unwrap();
        assert_eq!(
            written(Encoding::Float),
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-1.0]}],"model":"local","usage":{"prompt_tokens":3,"total_tokens":3}}"#
        );
        assert!(written(Encoding::Base64).contains(r#""embedding":"AAAAPwAAgL8=""#));
    }
}
