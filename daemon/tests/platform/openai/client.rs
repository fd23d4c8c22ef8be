//! A small HTTP client, over a unix socket or a port.

use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::fixture::LIMIT;

/// A whole response.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Said {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Status and code of an error.
    pub(super) fn refused(&self) -> (u16, String) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        assert!(error["type"].is_string() && error.get("param").is_some(), "{error}");
        (self.status, error["code"].as_str().unwrap_or_default().to_owned())
    }

    /// The data of the events.
    pub(super) fn events(&self) -> Vec<&str> {
        let events = self.text.split_terminator("\n\n");
        events.map(|event| event.strip_prefix("data: ").unwrap_or_else(|| panic!("{event:?}"))).collect()
    }
}

/// A connection with one request on it. Dropping it closes it.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Connection {
    pub(super) async fn unix(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).await.unwrap()).await
    }

    pub(super) async fn port(address: &str) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _ = connection.await;
        });
        Self { sender, _driver: driver }
    }

    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        timeout(LIMIT, self.sender.send_request(request)).await.expect("the request hangs").unwrap()
    }

    pub(super) async fn say(&mut self, request: Request<Full<Bytes>>) -> Said {
        let (head, body) = self.send(request).await.into_parts();
        let body = timeout(LIMIT, body.collect()).await.expect("the answer hangs").unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Said { status: head.status.as_u16(), headers: head.headers, text }
    }
}

pub(super) fn get(path: &str) -> Request<Full<Bytes>> {
    request(Method::GET, path, String::new())
}

pub(super) fn post(path: &str, body: impl ToString) -> Request<Full<Bytes>> {
    request(Method::POST, path, body.to_string())
}

fn request(method: Method, path: &str, body: String) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(path).header("host", "localhost").body(Full::from(body)).unwrap()
}
