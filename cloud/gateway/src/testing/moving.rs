//! A fleet that is moved from one gateway to another of the same keys.

use std::sync::Arc;
use std::time::Duration;

use synesis_mesh::device::{Tunnel, TunnelConfig, TunnelHandle, TunnelState, enroll};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::gateway::TestGateway;
use super::scripted_http::ScriptedHttp;

const DEVICES: u32 = 200;

/// Waits until the device is up, and fails when it has to wait for another try on the way.
async fn up_without_backoff(tunnel: &TunnelHandle, at: &[&str]) {
    let mut status = tunnel.status();
    let arrived = status.wait_for(|s| {
        assert_ne!(s.state, TunnelState::Backoff, "{:?}", s.reason);
        s.state == TunnelState::Up && s.gateway.as_deref().is_some_and(|gateway| at.contains(&gateway))
    });
    timeout(Duration::from_secs(60), arrived).await.expect("up in time").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_devices_move_to_the_other_gateway_and_no_heartbeat_is_lost() {
    let provider = ScriptedHttp::start(Vec::new()).await;
    let first = TestGateway::start(&provider).await;
    let (token, ca) = (first.token_for(DEVICES, None).await, first.ca_pem());
    let mut enrolling = JoinSet::new();
    for _ in 0..DEVICES {
        let (address, ca, token) = (first.address.to_string(), ca.clone(), token.clone());
        enrolling.spawn(async move { enroll(&address, &ca, &token, "test/1").await.unwrap() });
    }
    let identities = enrolling.join_all().await;
    // Both know all of them from here on.
    let folder = first.stop().await;
    let other = TestGateway::twin(&folder).await;
    let leaving = TestGateway::serve(folder).await;

    let (from, to) = (leaving.address.to_string(), other.address.to_string());
    let (mut drivers, mut tunnels) = (JoinSet::new(), Vec::new());
    let stop = CancellationToken::new();
    for identity in identities {
        let mut config = TunnelConfig::new("test/1", watch::channel(None).1);
        config.endpoints = vec![from.clone(), to.clone()];
        config.timing.heartbeat = Some(Duration::from_millis(250));
        config.timing.connect_timeout = Duration::from_secs(30);
        config.timing.lost_after = Duration::from_secs(60);
        let (tunnel, mut driver) = Tunnel::new(config, Some(Arc::new(identity)));
        let stop = stop.clone();
        drivers.spawn(async move { driver.run(stop).await });
        tunnels.push(tunnel);
    }
    for tunnel in &tunnels {
        // Gateways are raced: on a busy machine the second wins here and there.
        up_without_backoff(tunnel, &[&from, &to]).await;
    }
    let moved =
        tunnels.iter().filter(|tunnel| tunnel.status().borrow().gateway.as_ref() == Some(&from)).count();
    assert!(moved > 0, "nobody is where the move begins");
    leaving.begin_stop();
    for tunnel in &tunnels {
        up_without_backoff(tunnel, &[&to]).await;
        // A heartbeat of which nothing was heard would have ended the connection; this one is answered by the new gateway.
        tunnel.ping().await.unwrap();
    }
    let metrics = leaving.metrics.clone();
    leaving.stop().await;
    assert_eq!(metrics.tally.control_faults.value(), 0, "every session ended with a goodbye");
    assert!(other.metrics.handshakes.value("device") >= u64::from(DEVICES));
    stop.cancel();
    drivers.join_all().await;
}
