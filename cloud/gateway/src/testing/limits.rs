//! Devices that want too much: they are told when to come back, nothing is charged, and nobody else notices.

use std::sync::Arc;
use std::time::Duration;

use synesis_mesh::device::{Tunnel, TunnelConfig, TunnelState};
use synesis_mesh::frame::FrameError;
use synesis_mesh::kind::ErrorCode;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::device::TestDevice;
use super::gateway::TestGateway;
use super::scripted_http::{Reply, ScriptedHttp, openai_chunks};

const SOON: Duration = Duration::from_secs(20);

async fn world(lines: &str, replies: Vec<Reply>) -> (ScriptedHttp, TestGateway, TestDevice) {
    let provider = ScriptedHttp::start(replies).await;
    let gateway = TestGateway::start_configured(&provider, lines).await;
    let device = TestDevice::enrol(&gateway, None).await;
    (provider, gateway, device)
}

#[tokio::test]
async fn a_device_that_asks_too_often_is_told_when_to_come_back_and_is_not_charged() {
    let answer = || Reply::sse(openai_chunks(&["x"], Some((1, 1))));
    let (provider, gateway, device) =
        world("[limits]\nasks_per_minute = 2\n", vec![answer(), answer(), answer()]).await;
    for n in 1..=2 {
        assert!(device.ask(Ulid::from(n), "hi").await.told().await.receipt.is_some());
    }
    let told = device.ask(Ulid::from(3), "hi").await.told().await;
    let problem = told.problem.unwrap();
    assert_eq!(problem.code, ErrorCode::RateLimited.number());
    assert!((1..=30_001).contains(&problem.retry_after_ms), "{problem:?}");
    assert!(problem.next_step.starts_with("try again in"), "{problem:?}");
    assert_eq!((provider.requests(), told.accepted), (2, None));
    assert_eq!(device.receipt(Ulid::from(3)).await.state, "unknown", "and its id is not used up");
    assert_eq!(gateway.metrics.streams_refused.value("rate_limited"), 1);

    let other = TestDevice::enrol(&gateway, None).await;
    assert!(other.ask(Ulid::from(3), "hi").await.told().await.receipt.is_some());
}

#[tokio::test]
async fn a_device_that_connects_too_often_waits_as_long_as_it_is_told() {
    let (_provider, gateway, device) =
        world("[limits]\ndevice_connections_per_minute = 1\n", Vec::new()).await;
    let mut config = TunnelConfig::new("test/1", watch::channel(None).1);
    config.endpoints = vec![gateway.address.to_string()];
    let (again, mut driver) = Tunnel::new(config, Some(Arc::clone(&device.identity)));
    let mut running = JoinSet::new();
    running.spawn(async move { driver.run(CancellationToken::new()).await });
    let mut status = again.status();
    let waiting =
        timeout(SOON, status.wait_for(|s| s.state == TunnelState::Backoff)).await.unwrap().unwrap().clone();
    assert!(waiting.reason.unwrap().contains("too many connections"), "{:?}", waiting.next_step);
    assert!(waiting.retry_at.unwrap() > Instant::now() + Duration::from_secs(30));
    assert_eq!(gateway.metrics.refused.value("device_limit"), 1);
    assert_eq!(device.tunnel.status().borrow().state, TunnelState::Up, "the first is not touched");
}

#[tokio::test]
async fn a_device_that_does_not_read_an_answer_loses_it_and_nothing_else() {
    let long = "x".repeat(16 * 1024);
    let texts = vec![long.as_str(); 100];
    let replies = vec![Reply::sse(openai_chunks(&texts, None))];
    // A fast machine asks more than a thousand questions until the answer is cut.
    let limits = "[limits]\nunread_answer = \"200ms\"\nothers_per_minute = 1000000\n";
    let (_provider, gateway, device) = world(limits, replies).await;
    let mut unread = device.ask(Ulid::from(1), "hi").await;
    // Each question is a round trip on the same connection, which goes on as if nothing were.
    let cut = async {
        while gateway.metrics.streams_ended.value("ask") == 0 {
            device.balance().await;
        }
    };
    timeout(SOON, cut).await.expect("the answer that nobody reads ends");
    let error = loop {
        match unread.read().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a cut answer looks finished"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, FrameError::Reset(Some(ErrorCode::DeadlineExceeded))), "{error:?}");
    assert_eq!(device.tunnel.status().borrow().state, TunnelState::Up);
}
