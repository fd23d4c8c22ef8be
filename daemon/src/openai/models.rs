//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::response::Response;
use serde::Serialize;

use super::error::ApiError;
use super::request::{Entry, RequestError};
use super::routes::{Service, json};

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

impl From<Entry> for Model {
    fn from(entry: Entry) -> Self {
        let created = seconds(entry.created);
        Self { id: entry.id, object: "model", created, owned_by: entry.owned_by }
    }
}

/// All of them.
pub(super) async fn list(State(service): State<Service>) -> Response {
    let data = service.names().list().into_iter().map(Model::from).collect();
    json(&List { object: "list", data })
}

/// One of them.
pub(super) async fn one(
    State(service): State<Service>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let entry = service.names().list().into_iter().find(|entry| entry.id == id);
    let entry = entry.ok_or(RequestError::UnknownModel(id))?;
    Ok(json(&Model::from(entry)))
}

/// Since 1970, as the OpenAI API says times.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
