//! The paths of the endpoint and their handlers.

use std::time::SystemTime;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, Uri};
use serde::Serialize;
use synesis_supervise::Overall;

use super::answer::Answer;
use super::error::ApiError;
use super::reply::{ChatReply, CompletionReply, Head};
use super::request::{self, ChatRequest, CompletionRequest, Delivery, Names};
use super::{body, gate, models};
use crate::app::Handles;
use crate::ask::Ask;
use crate::ipc::AdmissionControl;
use crate::ipc::call::Call;
use crate::model::ModelState;
use crate::node::TunnelState;

/// What the handlers work with.
#[derive(Debug, Clone)]
pub(super) struct Service {
    handles: Handles,
}

impl Service {
    /// The names that mean something at this moment.
    pub(super) fn names(&self) -> Names {
        let node = self.handles.node.snapshot();
        let model = Some(node.model.name.clone()).filter(|name| !name.is_empty());
        Names {
            model: model.filter(|_| node.model.state != ModelState::None),
            adapters: node
                .adapters
                .adapters
                .iter()
                .map(|adapter| (adapter.name.to_string(), adapter.imported_at))
                .collect(),
            cloud: node.tunnel.state != TunnelState::Unenrolled,
            since: node.started_at,
        }
    }

    fn ask(&self, call: &Call, ask: Ask) -> Answer {
        Answer::new(self.handles.asker.ask(call.id, ask), self.handles.stopping.clone())
    }

    pub(super) fn handles(&self) -> &Handles {
        &self.handles
    }
}

/// All of it, behind the gate.
pub(super) fn router(handles: Handles, control: AdmissionControl) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completion))
        .route("/v1/embeddings", post(super::embeddings::make))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(control, gate::pass))
        .with_state(Service { handles })
}

async fn chat(
    State(service): State<Service>,
    Extension(call): Extension<Call>,
    body: Body,
) -> Result<Response, ApiError> {
    let body = body::read(body).await?;
    let ChatRequest { ask, model, delivery, tools } =
        request::chat(&body, &service.names(), call.caller.uid)?;
    let answer = service.ask(&call, ask);
    let reply = |usage| ChatReply::new(head(&call, model), tools, usage);
    match delivery {
        Delivery::Whole => answer.whole(reply(false)).await,
        Delivery::Stream { usage } => answer.stream(reply(usage)).await,
    }
}

async fn completion(
    State(service): State<Service>,
    Extension(call): Extension<Call>,
    body: Body,
) -> Result<Response, ApiError> {
    let body = body::read(body).await?;
    let CompletionRequest { ask, model, delivery } =
        request::completion(&body, &service.names(), call.caller.uid)?;
    let answer = service.ask(&call, ask);
    let reply = |usage| CompletionReply::new(head(&call, model), usage);
    match delivery {
        Delivery::Whole => answer.whole(reply(false)).await,
        Delivery::Stream { usage } => answer.stream(reply(usage)).await,
    }
}

fn head(call: &Call, model: String) -> Head {
    Head { request: call.id, created: models::seconds(SystemTime::now()), model }
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    model: &'static str,
}

/// For probes: whether asking makes sense. A device that is degraded still answers.
async fn health(State(service): State<Service>) -> Response {
    let node = service.handles.node.snapshot();
    let (status, code) = match node.state {
        Overall::Stopping => ("stopping", StatusCode::SERVICE_UNAVAILABLE),
        Overall::Degraded => ("degraded", StatusCode::OK),
        _ => ("ok", StatusCode::OK),
    };
    (code, json(&Health { status, model: node.model.state.as_str() })).into_response()
}

async fn unknown(uri: Uri) -> ApiError {
    let message = format!("there is no {} here; the base URL ends with /v1", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "unknown_url", message)
}

async fn wrong_method() -> ApiError {
    let message = "this path takes another method; use GET for models and POST for everything else";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// An object of ours as a response.
pub(super) fn json(object: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(object).unwrap_or_default()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
