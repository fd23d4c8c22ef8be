//! The life of a tunnel over real sockets: revocation, restarts, absent gateways, moving, changing identity.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use support::{Device, Gateway, Pki, SOON, ask, delta, listen, over_tcp, silence};
use synesis_mesh::carrier::ConnectionLost;
use synesis_mesh::device::{PingError, TunnelEvent, TunnelState};
use synesis_mesh::gateway::{Accepted, GatewayEndpoint};
use synesis_mesh::kind::{ErrorCode, StreamKind};
use synesis_mesh::stream::StreamHeader;
use synesis_proto::mesh::v1;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use ulid::Ulid;

#[tokio::test]
async fn a_revoked_device_stops_dialling_until_asked_or_given_another_identity() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let identity = pki.device(gateway.address);
    let id = identity.device_id;
    let device = Device::start(Some(identity));
    let session = gateway.session().await;
    device.reach(TunnelState::Up).await;

    gateway.revoked.lock().unwrap().insert(id);
    session.close(ErrorCode::Revoked, "lost at the airport");
    let status = device.reach(TunnelState::Revoked).await;
    assert!(status.reason.unwrap().contains("lost at the airport"));
    assert!(status.next_step.unwrap().contains("enrol"));
    assert_eq!(status.retry_at, None);

    // Asked to dial, it does, and is told again.
    let mut watch = device.handle.status();
    watch.mark_unchanged();
    device.handle.reconnect();
    timeout(SOON, watch.wait_for(|s| s.state == TunnelState::Connecting)).await.unwrap().unwrap();
    device.reach(TunnelState::Revoked).await;

    device.handle.set_identity(Some(Arc::new(pki.device(gateway.address))));
    device.reach(TunnelState::Up).await;
    assert_ne!(gateway.session().await.device_id(), id);
}

/// A gateway on a runtime of its own, so that it can vanish without a word.
struct Killable {
    runtime: Option<tokio::runtime::Runtime>,
    address: SocketAddr,
}

impl Killable {
    async fn start(pki: &Arc<Pki>, address: SocketAddr) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (tell, told) = oneshot::channel();
        let pki = pki.clone();
        let serve = async move {
            let mut gateway = Gateway::with(&pki, pki.tls(), address);
            tell.send(gateway.address).unwrap();
            let mut sessions = Vec::new();
            while let Some(session) = gateway.sessions.recv().await {
                sessions.push(session);
            }
        };
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn_on(serve, runtime.handle());
        tasks.detach_all();
        Self { runtime: Some(runtime), address: told.await.unwrap() }
    }
}

impl Drop for Killable {
    /// Like SIGKILL: no close is sent, the socket is gone.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tokio::test]
async fn after_a_gateway_was_killed_and_restarted_the_tunnel_is_back_by_itself() {
    if over_tcp() {
        // There the kernel tells it, in other words.
        return;
    }
    let pki = Pki::new();
    let first = Killable::start(&pki, ([127, 0, 0, 1], 0).into()).await;
    let device = Device::start(Some(pki.device(first.address)));
    let before = device.reach(TunnelState::Up).await;
    device.handle.ping().await.unwrap();

    let killed_at = Instant::now();
    let mut status = device.handle.status();
    status.mark_unchanged();
    let address = first.address;
    drop(first);
    // The socket is closed by another thread; binding tells when.
    while std::net::UdpSocket::bind(address).is_err() {
        tokio::task::yield_now().await;
    }
    let _second = Killable::start(&pki, address).await;
    let down = timeout(SOON, status.wait_for(|s| s.state != TunnelState::Up)).await.unwrap().unwrap().clone();
    assert_eq!(down.reason.as_deref(), Some("the gateway restarted"));
    let after = device.reach(TunnelState::Up).await;
    assert!(after.connected_since > before.connected_since);
    // A reset from the new process, not the ten seconds without an ack.
    assert!(killed_at.elapsed() < Duration::from_secs(8), "{:?}", killed_at.elapsed());
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_a_backoff_with_reason_and_retry_time() {
    if over_tcp() {
        return;
    }
    let pki = Pki::new();
    let (_socket, nobody) = silence();
    let device = Device::with(Some(pki.device(nobody)), |config| {
        config.timing.connect_timeout = Duration::from_millis(200);
        config.timing.backoff.base = Duration::from_secs(60);
    });
    let status = device.reach(TunnelState::Backoff).await;
    let reason = status.reason.unwrap();
    assert!(reason.contains("could not be reached") && reason.contains(&nobody.to_string()), "{reason}");
    assert!(status.next_step.is_some() && status.retry_at.is_some());
    assert_eq!(status.gateway, Some(nobody.to_string()));
    assert!(matches!(device.handle.ping().await, Err(PingError::Offline(_))));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_backoff_that_says_so() {
    let pki = Pki::new();
    let mut identity = pki.device(([127, 0, 0, 1], 1).into());
    identity.gateway = "no-such-host.invalid:4433".into();
    let status = Device::start(Some(identity)).reach(TunnelState::Backoff).await;
    assert!(status.reason.unwrap().contains("could not be resolved"));
}

#[tokio::test]
async fn a_gateway_that_appears_later_is_found() {
    let pki = Pki::new();
    let (socket, address) = silence();
    let device = Device::with(Some(pki.device(address)), |config| {
        config.timing.connect_timeout = Duration::from_millis(100);
    });
    device.reach(TunnelState::Backoff).await;
    drop(socket);
    let _gateway = Gateway::with(&pki, pki.tls(), address);
    device.reach(TunnelState::Up).await;
}

#[tokio::test]
async fn the_second_endpoint_is_used_when_the_first_does_not_answer() {
    if over_tcp() {
        return;
    }
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let (_socket, nobody) = silence();
    let device = Device::with(Some(pki.device(nobody)), |config| {
        config.endpoints = vec![nobody.to_string(), gateway.address.to_string()];
        config.timing.connect_timeout = Duration::from_millis(200);
    });
    let status = device.reach(TunnelState::Up).await;
    assert_eq!(status.gateway, Some(gateway.address.to_string()));
}

#[tokio::test]
async fn an_identity_is_taken_up_and_laid_down_while_running() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let device = Device::start(None);
    let status = device.reach(TunnelState::Unenrolled).await;
    assert!(status.next_step.unwrap().contains("synctl enroll"));

    device.handle.set_identity(Some(Arc::new(pki.device(gateway.address))));
    device.reach(TunnelState::Up).await;
    let session = gateway.session().await;

    device.handle.set_identity(None);
    device.reach(TunnelState::Unenrolled).await;
    timeout(SOON, session.closed()).await.expect("the gateway hears of it");
}

#[tokio::test]
async fn news_of_the_tunnel_reach_who_listens() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let device = Device::start(None);
    let mut events = device.handle.events();
    device.handle.set_identity(Some(Arc::new(pki.device(gateway.address))));
    assert_eq!(timeout(SOON, events.recv()).await.unwrap(), Ok(TunnelEvent::Up));
    let session = gateway.session().await;
    session.prewarm("legal").await.unwrap();
    let prewarm = TunnelEvent::Prewarm { adapter: "legal".into() };
    assert_eq!(timeout(SOON, events.recv()).await.unwrap(), Ok(prewarm));
    session.close(ErrorCode::Draining, "");
    assert_eq!(timeout(SOON, events.recv()).await.unwrap(), Ok(TunnelEvent::Down));
}

#[tokio::test]
async fn a_drained_device_moves_and_its_running_answer_finishes() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let device = Device::start(Some(pki.device(gateway.address)));
    let first = gateway.session().await;
    device.reach(TunnelState::Up).await;
    let header = StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, 2));
    let mut work = device.handle.open(header).await.unwrap();
    work.tx.write(&ask(b"before")).await.unwrap();
    assert_eq!(work.rx.read().await.unwrap(), Some(delta(1, "before".into())));

    first.drain(Duration::from_millis(10)).await.unwrap();
    let second = gateway.session().await;
    device.reach(TunnelState::Up).await;
    assert_eq!(second.device_id(), first.device_id());

    work.tx.write(&ask(b"after")).await.unwrap();
    assert_eq!(work.rx.read().await.unwrap(), Some(delta(2, "after".into())));
    work.tx.finish().await.unwrap();
    assert_eq!(work.rx.read::<v1::AskDown>().await.unwrap(), None);
    drop(work);
    timeout(SOON, first.closed()).await.expect("the old connection ends with its last stream");
}

#[tokio::test]
async fn a_drain_without_end_is_taken_as_a_long_one() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let device = Device::start(Some(pki.device(gateway.address)));
    gateway.session().await.drain(Duration::MAX).await.unwrap();
    device.reach(TunnelState::Draining).await;
    assert!(device.handle.ping().await.is_ok());
}

#[tokio::test]
async fn a_stopped_tunnel_is_offline_and_the_gateway_hears_of_it() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let device = Device::start(Some(pki.device(gateway.address)));
    let session = gateway.session().await;
    device.reach(TunnelState::Up).await;
    device.stop.cancel();
    device.reach(TunnelState::Offline).await;
    let cause = timeout(SOON, session.closed()).await.unwrap();
    assert!(matches!(cause, ConnectionLost::Closed { .. }), "{cause}");
    assert!(session.work().await.is_none());
}

#[tokio::test]
async fn reconnect_makes_another_connection() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let device = Device::start(Some(pki.device(gateway.address)));
    let first = gateway.session().await;
    device.reach(TunnelState::Up).await;
    device.handle.reconnect();
    let second = gateway.session().await;
    timeout(SOON, first.closed()).await.unwrap();
    assert_ne!(first.remote(), second.remote());
    device.reach(TunnelState::Up).await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let pki = Pki::new();
    let (_socket, taken) = silence();
    let error = GatewayEndpoint::bind(&pki.tls(), taken).unwrap_err();
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
}

#[tokio::test]
async fn a_gateway_with_a_foreign_key_does_not_start() {
    let pki = Pki::new();
    let tls = synesis_mesh::gateway::GatewayTls { key_pem: Pki::new().tls().key_pem, ..pki.tls() };
    assert!(GatewayEndpoint::bind(&tls, ([127, 0, 0, 1], 0).into()).is_err());
}

#[tokio::test]
async fn a_device_that_is_told_when_to_come_back_does_not_come_before() {
    let pki = Pki::new();
    let endpoint = listen(&pki.tls(), ([127, 0, 0, 1], 0).into());
    let device = Device::start(Some(pki.device(endpoint.local_addr().unwrap())));
    let incoming = timeout(SOON, endpoint.accept()).await.unwrap().unwrap();
    let Ok(Accepted::Device(mut peer)) = incoming.handshake().await else { panic!("no device") };
    peer.hello().await.unwrap();
    let mut problem = ErrorCode::RateLimited.problem("too many connections", "try again in an hour");
    problem.retry_after_ms = 3_600_000;
    peer.refuse_with(problem).await;
    let status = device.reach(TunnelState::Backoff).await;
    assert!(status.reason.unwrap().contains("too many connections (RATE_LIMITED)"));
    assert_eq!(status.next_step.as_deref(), Some("try again in an hour"));
    assert!(status.retry_at.unwrap() > Instant::now() + Duration::from_secs(3000));
}
