//! More peers than there should be: too many handshakes at once, too many sessions of one device.

use std::sync::Arc;
use std::time::Duration;

use synesis_mesh::device::TunnelState;
use tokio::time::timeout;

use super::device::TestDevice;
use super::end_to_end::world;
use super::gateway::TestGateway;
use super::scripted_http::ScriptedHttp;

#[tokio::test]
async fn devices_come_in_one_after_another_through_the_narrowest_door() {
    let provider = ScriptedHttp::start(Vec::new()).await;
    // With room for one it is always crowded: each peer has to prove its address, and to leave the door free.
    let gateway = TestGateway::start_narrow(&provider, 1).await;
    let mut inside = Vec::new();
    for _ in 0..2 {
        let device = timeout(Duration::from_secs(20), TestDevice::enrol(&gateway, None)).await.unwrap();
        inside.push(device);
    }
    for device in inside {
        assert_eq!(device.tunnel.status().borrow().state, TunnelState::Up);
    }
}

#[tokio::test]
async fn the_fifth_session_of_a_device_ends_its_first() {
    let (_provider, gateway, first) = world(Vec::new()).await;
    let mut status = first.tunnel.status();
    status.mark_unchanged();
    let mut newer = Vec::new();
    for _ in 0..4 {
        assert!(!status.has_changed().unwrap() || status.borrow().state == TunnelState::Up);
        newer.push(TestDevice::connect(Arc::clone(&first.identity), &gateway).await);
    }
    let left = status.wait_for(|status| status.state == TunnelState::Backoff);
    let reason = timeout(Duration::from_secs(20), left).await.unwrap().unwrap().reason.clone();
    // It would be back in a moment, and end the next.
    drop(first);
    assert!(reason.unwrap().contains("newer connections"), "the reason is said");
    for device in newer {
        assert_eq!(device.tunnel.status().borrow().state, TunnelState::Up);
    }
}
