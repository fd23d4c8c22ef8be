//! What whoever looks after a gateway sees of it.

use std::net::SocketAddr;
use std::sync::Arc;

use synesis_mesh::device::TunnelState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use ulid::Ulid;

use super::device::TestDevice;
use super::end_to_end::REQUEST;
use super::gateway::TestGateway;
use super::scripted_http::{Reply, ScriptedHttp, openai_chunks};

/// Status and body.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn a_gateway_is_ready_until_it_drains_and_counts_what_it_does() {
    let gate = Arc::new(Notify::new());
    let chunks = openai_chunks(&["be", "fore and after"], Some((2, 5)));
    let (before, after) = (chunks[..1].to_vec(), chunks[1..].to_vec());
    let provider = ScriptedHttp::start(vec![Reply::sse_in_two(before, Arc::clone(&gate), after)]).await;
    let gateway = TestGateway::start_configured(&provider, "http_listen = \"127.0.0.1:0\"\n").await;
    let pages = gateway.http.unwrap();
    let device = TestDevice::enrol(&gateway, None).await;
    assert_eq!(get(pages, "/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(get(pages, "/ready").await, (200, "{\"ready\":true,\"reasons\":[]}\n".to_owned()));
    assert_eq!(get(pages, "/else").await.0, 404);

    let mut asking = device.ask(REQUEST, "hi").await;
    asking.first_delta().await;
    let (status, text) = get(pages, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "synesis_gateway_sessions 1",
        "synesis_gateway_handshakes_total{outcome=\"device\"} 1",
        "synesis_gateway_handshakes_total{outcome=\"enrolment\"} 1",
        "synesis_gateway_streams_running{kind=\"ask\"} 1",
        "synesis_gateway_holds_total 1",
        "synesis_gateway_ready 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let id = device.identity.device_id.to_string();
    assert!(!text.contains(&id) && !text.contains("acme"), "nobody is named");

    assert_eq!(device.ask(Ulid::from(2), "hi").await.told().await.accepted.map(|_| ()), Some(()));
    let (_, text) = get(pages, "/metrics").await;
    assert!(text.contains("synesis_gateway_provider_errors_total{class=\"failing\"} 1\n"), "{text}");

    gateway.begin_stop();
    device.reaches(TunnelState::Draining).await;
    let (status, body) = get(pages, "/ready").await;
    assert_eq!(status, 503);
    assert!(body.contains("\"draining\""), "{body}");
    assert_eq!(get(pages, "/healthz").await.0, 200, "it lives");
    gate.notify_one();
    assert!(asking.told().await.receipt.is_some());
    assert_eq!(gateway.metrics.store.tokens_out.value(), 5);
    gateway.stop().await;
}
