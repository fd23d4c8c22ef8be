//! A gateway that stops: answers are finished, devices leave by themselves, and everything is there afterwards.

use std::sync::Arc;
use std::time::Duration;

use synesis_mesh::device::TunnelState;
use tokio::sync::Notify;

use super::device::TestDevice;
use super::end_to_end::{REQUEST, world};
use super::scripted_http::{Reply, openai_chunks};

#[tokio::test]
async fn an_answer_that_is_running_when_the_gateway_stops_is_finished() {
    let gate = Arc::new(Notify::new());
    let chunks = openai_chunks(&["be", "fore and after"], Some((2, 5)));
    let (before, after) = (chunks[..1].to_vec(), chunks[1..].to_vec());
    let (_provider, gateway, device) = world(vec![Reply::sse_in_two(before, Arc::clone(&gate), after)]).await;
    let mut asking = device.ask(REQUEST, "hi").await;
    asking.first_delta().await;
    gateway.begin_stop();
    device.reaches(TunnelState::Draining).await;
    gate.notify_one();
    let told = asking.told().await;
    assert_eq!(told.text, "fore and after");
    assert!(told.receipt.is_some());
    gateway.stop().await;
}

#[tokio::test]
async fn an_idle_device_hears_of_the_stop_and_moves_at_a_moment_of_its_own() {
    let (_provider, gateway, device) = world(Vec::new()).await;
    let mut status = device.tunnel.status();
    status.mark_unchanged();
    gateway.begin_stop();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        tokio::time::timeout(Duration::from_secs(20), status.changed()).await.unwrap().unwrap();
        let state = status.borrow_and_update().state;
        if seen.last().unwrap_or(&TunnelState::Up) != &state {
            seen.push(state);
        }
    }
    // A connection that was closed under it would have it wait for its next try.
    assert_eq!(seen, [TunnelState::Draining, TunnelState::Connecting]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_restarted_gateway_knows_its_devices_and_their_receipts() {
    let (_provider, gateway, device) = world(vec![Reply::sse(openai_chunks(&["x"], Some((1, 1))))]).await;
    let told = device.ask(REQUEST, "hi").await.told().await;
    let identity = Arc::clone(&device.identity);
    drop(device);
    let gateway = gateway.restart().await;
    let back = TestDevice::connect(identity, &gateway).await;
    assert_eq!(back.receipt(REQUEST).await.signed_receipt, told.receipt.unwrap());
}

#[tokio::test]
async fn a_gateway_that_is_told_to_stop_twice_waits_for_nothing() {
    let chunks = openai_chunks(&["eight by", "never"], None)[..1].to_vec();
    let (_provider, gateway, device) = world(vec![Reply::sse_then_hang(chunks)]).await;
    let mut asking = device.ask(REQUEST, "hi").await;
    asking.first_delta().await;
    gateway.begin_stop();
    device.reaches(TunnelState::Draining).await;
    gateway.hurry();
    // Without it, the answer that never comes would be waited for.
    tokio::time::timeout(Duration::from_secs(30), gateway.stop()).await.expect("it ends");
}
