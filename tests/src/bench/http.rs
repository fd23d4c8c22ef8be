//! As much of an HTTP client as the peer needs: one request per connection, the answer line by line.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// An answer that is being read.
pub(crate) struct Lines {
    /// Just before the request was sent, on a connection that was already open.
    pub(crate) sent: Instant,
    body: Incoming,
    buffer: Vec<u8>,
    /// Moves the bytes; ends with us.
    _connection: JoinSet<()>,
}

/// Posts JSON to `http://address/path`.
///
/// # Panics
/// When nothing answers there, or it answers with anything but 200.
pub(crate) async fn post(address: &str, path: &str, body: &Value) -> Lines {
    let stream = TcpStream::connect(address).await.expect("the peer listens");
    stream.set_nodelay(true).expect("a TCP socket");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
    let mut owned = JoinSet::new();
    owned.spawn(async move {
        // What goes wrong with the connection goes wrong with the request, which says so.
        let _ = connection.await;
    });
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, address)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .expect("a valid request");
    let sent = Instant::now();
    let response = sender.send_request(request).await.expect("the peer answers");
    let status = response.status();
    let mut lines = Lines { sent, body: response.into_body(), buffer: Vec::new(), _connection: owned };
    if !status.is_success() {
        let mut text = String::new();
        while let Some(line) = lines.next().await {
            text.push_str(&line);
        }
        panic!("the peer refused {path} with {status}: {text}");
    }
    lines
}

impl Lines {
    /// The next line without its end; none at the end of the answer.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            match self.body.frame().await {
                Some(frame) => {
                    let frame = frame.expect("the answer does not break off");
                    self.buffer.extend(frame.data_ref().into_iter().flatten());
                }
                None if self.buffer.is_empty() => return None,
                None => return Some(String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()),
            }
        }
    }

    /// The next server-sent event that is JSON; none at the end of the answer.
    pub(crate) async fn next_event(&mut self) -> Option<Value> {
        while let Some(line) = self.next().await {
            match line.strip_prefix("data: ") {
                Some("[DONE]") | None => {}
                Some(data) => return Some(serde_json::from_str(data).expect("an event is JSON")),
            }
        }
        None
    }
}
