//! One connection: HTTP/1.1, with a limit on how long a request's head may take, and a stop that lets the answer in
//! progress end.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::gate::Door;
use crate::ipc::Place;

/// From the end of one request to the end of the next one's head. Clients keep a connection for some seconds.
const IDLE: Duration = Duration::from_secs(60);
/// For a caller for whom there is no place: it has to be said without reading what they ask.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 141\r\nretry-after: 1\r\nconnection: close\r\n\r\n{\"error\":{\"message\":\"too many connections are open; close some, or try again in a moment\",\"type\":\"server_error\",\"param\":null,\"code\":\"busy\"}}\n";

/// Answers on one connection until its client leaves, or `stopping` and the answer in progress has ended. `place` is held
/// as long.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    door: Door,
    router: Router,
    stopping: CancellationToken,
    place: Place,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(door.clone());
        let router = router.clone();
        async move { answer(router, request).await }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        // Also a client that left in the middle of an answer.
        tracing::debug!(%error, "a connection ended early");
    }
    drop(place);
}

async fn answer(router: Router, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    router.oneshot(request).await
}

/// Says that there are too many, and closes.
pub(super) async fn refuse(mut stream: impl AsyncWrite + Unpin) {
    // A new connection has room for so little; a client that is gone already need not hear it.
    let _ = stream.write_all(FULL).await;
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, duplex};
    use tokio::time::Instant;

    use super::*;
    use crate::ipc::{Caller, InProgress, Role};

    fn somebody() -> (Door, Place) {
        let caller = Caller { uid: 1000, gid: 1000, pid: None, role: Role::User };
        (Door::Socket(caller), InProgress::default().enter(&caller).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_to_its_end_is_not_waited_for() {
        let (mut client, server) = duplex(1024);
        let (door, place) = somebody();
        client.write_all(b"GET /health HTTP/1.1\r\nHost: ").await.unwrap();
        let before = Instant::now();
        serve(server, door, Router::new(), CancellationToken::new(), place).await;
        let waited = before.elapsed();
        assert!(waited >= IDLE && waited < 2 * IDLE, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_closes_a_connection_on_which_nothing_is_asked() {
        let (mut client, server) = duplex(1024);
        let (door, place) = somebody();
        let stopping = CancellationToken::new();
        stopping.cancel();
        let before = Instant::now();
        serve(server, door, Router::new(), stopping, place).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "closed");
    }

    #[test]
    fn the_refusal_is_a_whole_response() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["error"]["code"], "busy");
    }
}
