//! `/healthz`, `/ready` and `/metrics` for whoever looks after the gateway. Started before everything that can make it
//! unready and stopped after it, so that there is an answer all the time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use synesis_mesh::gateway::GatewayEndpoint;
use synesis_supervise::{BoxError, Context, HealthBoard, State, Subsystem};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::closing::Closing;
use crate::live::Live;
use crate::metrics::{Gauges, Metrics, page};

/// A connection is for a question or a few, and not for long.
const LONGEST: Duration = Duration::from_secs(30);
/// Connections at the same time; whoever looks after the gateway needs two.
const MOST: usize = 32;
/// After a failed accept (no file descriptors, say), which would otherwise fail again at once.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Parts without which the gateway serves all the same, only less.
const OPTIONAL: [&str; 2] = ["runtime", "http"];

/// What the pages are made of.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) board: HealthBoard,
    pub(crate) closing: Closing,
    pub(crate) live: Live,
    pub(crate) endpoint: GatewayEndpoint,
    pub(crate) metrics: Metrics,
}

impl View {
    /// Why newcomers are not served; empty when they are.
    fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.closing.is_draining() {
            reasons.push("draining".to_owned());
        }
        for row in self.board.snapshot() {
            if row.state != State::Ready && !OPTIONAL.contains(&row.name) {
                let why = if row.reason.is_empty() { String::new() } else { format!(": {}", row.reason) };
                reasons.push(format!("{} is {}{why}", row.name, row.state));
            }
        }
        reasons
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        if method != Method::GET && method != Method::HEAD {
            return respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
        }
        match path {
            "/healthz" => respond(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/ready" => {
                let reasons = self.reasons();
                let ready = reasons.is_empty();
                let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                let body = json!({ "ready": ready, "reasons": reasons });
                respond(status, "application/json", format!("{body}\n"))
            }
            "/metrics" => {
                let gauges = Gauges {
                    sessions: self.live.sessions(),
                    connections: self.endpoint.connections(),
                    ready: self.reasons().is_empty(),
                    draining: self.closing.is_draining(),
                };
                respond(
                    StatusCode::OK,
                    "text/plain; version=0.0.4; charset=utf-8",
                    page(&self.metrics, gauges),
                )
            }
            _ => respond(StatusCode::NOT_FOUND, TEXT, "see /healthz, /ready and /metrics\n".to_owned()),
        }
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    headers.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

/// The listener as a subsystem.
pub(crate) struct Http {
    pub(crate) listener: std::net::TcpListener,
    pub(crate) view: View,
}

/// Listens, before anything is promised.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[async_trait]
impl Subsystem for Http {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        let stopping = cx.stopping();
        let mut open = JoinSet::new();
        cx.ready();
        loop {
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                Some(_) = open.join_next() => {}
                accepted = listener.accept(), if open.len() < MOST => match accepted {
                    Ok((stream, _)) => {
                        open.spawn(serve(stream, self.view.clone()));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection was not accepted");
                        sleep(AFTER_FAILURE).await;
                    }
                },
            }
        }
    }
}

async fn serve(stream: TcpStream, view: View) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = view.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(LONGEST).max_buf_size(16 * 1024);
    let connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    match timeout(LONGEST, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
    }
}
