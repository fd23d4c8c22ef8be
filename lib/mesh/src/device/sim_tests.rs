//! The tunnel against a real gateway session, over a simulated network and under virtual time.

use std::sync::Arc;
use std::time::Duration;

use synesis_proto::mesh::v1;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use ulid::Ulid;
use uuid::Uuid;

use super::dial::{Dial, Dialled};
use super::sim::{DELAY, SimNet};
use super::*;
use crate::carrier::{Connection, ConnectionLost};
use crate::frame::FrameError;
use crate::gateway::{Accepted, GatewayEndpoint, GatewayTls, HandshakeError};
use crate::identity::{Ca, CaKind, DeviceIdentity, DeviceKey, certificates_from_pem};
use crate::kind::{ErrorCode, MAX_WORK_STREAMS, StreamKind};
use crate::stream::{RawStream, StreamHeader};
use crate::tls::ClientTls;

const GATEWAY: &str = "10.0.0.2:4433";
const SECOND: Duration = Duration::from_secs(1);

/// A gateway, a device that knows it, and the network between them.
struct World {
    net: SimNet,
    handle: TunnelHandle,
    identity: Arc<DeviceIdentity>,
    /// How each failed handshake failed at the gateway.
    refused: mpsc::Receiver<HandshakeError>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl World {
    fn new(heartbeat: Duration) -> Self {
        let net = SimNet::default();
        let domain = "sim.example".parse().unwrap();
        let server_ca = Ca::generate(CaKind::Server, &domain).unwrap();
        let device_ca = Ca::generate(CaKind::Device, &domain).unwrap();
        let server = server_ca.issue_server(&[]).unwrap();
        let tls = GatewayTls {
            chain_pem: server.chain_pem,
            key_pem: server.key_pem,
            device_ca_pem: device_ca.certificate_pem(),
            trust_domain: domain.clone(),
            reset_seed: None,
        };
        let endpoint = net.endpoint_at(GATEWAY.parse().unwrap()).unwrap();
        let gateway = GatewayEndpoint::over(endpoint, &tls).unwrap();

        let key = DeviceKey::generate().unwrap();
        let device_id = Uuid::new_v4();
        let identity = DeviceIdentity {
            device_id,
            account: "acme".into(),
            trust_domain: domain,
            chain: device_ca.sign_device_csr(&key.csr_der().unwrap(), device_id).unwrap().chain,
            ca: certificates_from_pem(server_ca.certificate_pem().as_bytes()).unwrap(),
            key,
            receipt_keys: Vec::new(),
            gateway: GATEWAY.into(),
        };
        let mut config = TunnelConfig::new("sim/1", watch::channel(None).1);
        config.timing.heartbeat = Some(heartbeat);
        let identity = Arc::new(identity);
        let (handle, mut driver) = Tunnel::over(config, Some(identity.clone()), Arc::new(net.clone()));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (refused_in, refused) = mpsc::channel(16);
        tasks.spawn(serve(gateway, refused_in));
        let token = stop.clone();
        tasks.spawn(async move { driver.run(token).await });
        Self { net, handle, identity, refused, stop, tasks }
    }

    /// Waits, in virtual time, for a state.
    async fn reach(&self, state: TunnelState) -> TunnelStatus {
        let mut status = self.handle.status();
        status.wait_for(|s| s.state == state).await.unwrap().clone()
    }

    async fn leave_up(&self) -> Instant {
        let mut status = self.handle.status();
        status.wait_for(|s| s.state != TunnelState::Up).await.unwrap();
        Instant::now()
    }

    /// A second connection of the same device, on which nothing happens by itself.
    async fn raw(&self) -> Dialled {
        dial(&self.identity, SECOND, &self.net).await.unwrap()
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.reach(TunnelState::Offline).await;
        self.tasks.abort_all();
    }
}

async fn dial(identity: &DeviceIdentity, each: Duration, net: &SimNet) -> Result<Dialled, Failure> {
    dial_at(GATEWAY, identity, each, net).await
}

async fn dial_at(
    gateway: &str,
    identity: &DeviceIdentity,
    each: Duration,
    net: &SimNet,
) -> Result<Dialled, Failure> {
    let tls = crate::tls::device(identity).and_then(ClientTls::try_from).unwrap();
    let gateways = [gateway.to_owned()];
    Dial { gateways: &gateways, tls, each, fallback: &Fallback::Off, head_start: Duration::ZERO }
        .run(net)
        .await
}

/// Welcomes everybody, holds every stream open.
async fn serve(gateway: GatewayEndpoint, refused: mpsc::Sender<HandshakeError>) {
    let mut sessions = JoinSet::new();
    while let Some(incoming) = gateway.accept().await {
        let refused = refused.clone();
        sessions.spawn(async move {
            let mut device = match incoming.handshake().await {
                Ok(Accepted::Device(device)) => device,
                Ok(Accepted::Enroll(_)) => return,
                Err(error) => return refused.send(error).await.unwrap(),
            };
            if device.hello().await.is_err() {
                return;
            }
            let session = device.welcome(v1::Welcome::default()).await.unwrap();
            let mut held = Vec::new();
            while let Some(stream) = session.work().await {
                held.push(stream);
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn the_round_trip_is_the_networks_own() {
    let world = World::new(SECOND);
    world.reach(TunnelState::Up).await;
    let mut status = world.handle.status();
    let rtt = status.wait_for(|s| s.rtt.is_some()).await.unwrap().rtt.unwrap();
    assert!(rtt >= 2 * DELAY && rtt < 3 * DELAY, "{rtt:?}");
    let ping = world.handle.ping().await.unwrap();
    assert!(ping >= 2 * DELAY && ping < 3 * DELAY, "{ping:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_state_leaves_up_within_ten_seconds_of_the_last_ack() {
    let world = World::new(2 * SECOND);
    world.reach(TunnelState::Up).await;
    world.handle.ping().await.unwrap();
    let last_ack = Instant::now();
    world.net.cut(true);
    let left = world.leave_up().await;
    let after = left - last_ack;
    assert!(after > 9 * SECOND && after <= 10 * SECOND, "{after:?}");
    let status = world.handle.status().borrow().clone();
    assert_eq!(status.reason.as_deref(), Some("the gateway stopped answering"));
    assert_eq!((status.rtt, status.connected_since), (None, None));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_path_under_an_idle_tunnel_is_noticed_one_probe_after_the_next_heartbeat() {
    let world = World::new(30 * SECOND);
    world.reach(TunnelState::Up).await;
    world.handle.ping().await.unwrap();
    let cut = Instant::now();
    world.net.cut(true);
    let after = world.leave_up().await - cut;
    assert!(after > 35 * SECOND && after < 37 * SECOND, "{after:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_path_under_running_work_is_noticed_within_ten_seconds_of_the_last_ack() {
    let world = World::new(30 * SECOND);
    world.reach(TunnelState::Up).await;
    let work = world.handle.open(StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, 1))).await.unwrap();
    world.handle.ping().await.unwrap();
    let last_ack = Instant::now();
    world.net.cut(true);
    let after = world.leave_up().await - last_ack;
    assert!(after <= 10 * SECOND, "{after:?}");
    drop(work);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_no_reconnect() {
    let world = World::new(2 * SECOND);
    let since = world.reach(TunnelState::Up).await.connected_since;
    world.handle.ping().await.unwrap();
    world.net.cut(true);
    tokio::time::sleep(4 * SECOND).await;
    world.net.cut(false);
    tokio::time::sleep(60 * SECOND).await;
    let status = world.handle.status().borrow().clone();
    assert_eq!((status.state, status.connected_since), (TunnelState::Up, since));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_tunnel_comes_back_by_itself_after_a_day_without_a_network() {
    let world = World::new(10 * SECOND);
    world.reach(TunnelState::Up).await;
    world.net.cut(true);
    world.reach(TunnelState::Backoff).await;
    tokio::time::sleep(24 * 60 * 60 * SECOND).await;
    world.net.cut(false);
    let healed = Instant::now();
    world.reach(TunnelState::Up).await;
    assert!(healed.elapsed() <= 66 * SECOND, "cap plus one dial: {:?}", healed.elapsed());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn reconnect_does_not_wait_for_the_backoff() {
    let world = World::new(2 * SECOND);
    world.reach(TunnelState::Up).await;
    world.net.cut(true);
    let mut status = world.handle.status();
    let long = |s: &TunnelStatus| s.retry_at.is_some_and(|at| at - Instant::now() > 10 * SECOND);
    status.wait_for(long).await.unwrap();
    world.net.cut(false);
    let asked = Instant::now();
    world.handle.reconnect();
    world.reach(TunnelState::Up).await;
    assert!(asked.elapsed() < SECOND, "{:?}", asked.elapsed());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_tunnel_stays_up_for_hours() {
    let world = World::new(30 * SECOND);
    let since = world.reach(TunnelState::Up).await.connected_since;
    tokio::time::sleep(60 * 60 * SECOND).await;
    let status = world.handle.status().borrow().clone();
    assert_eq!((status.state, status.connected_since), (TunnelState::Up, since));
    world.end().await;
}

/// The code the gateway closed the connection with, and when.
async fn closed(connection: &Connection) -> (Option<ErrorCode>, Duration) {
    let start = Instant::now();
    match connection.closed().await {
        ConnectionLost::Closed { code, .. } => (ErrorCode::from_number(code), start.elapsed()),
        other => panic!("{other}"),
    }
}

fn control(message: v1::control_up::Message) -> v1::ControlUp {
    v1::ControlUp { message: Some(message) }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_says_nothing_is_closed_after_ten_seconds() {
    let world = World::new(SECOND);
    let silent = world.raw().await;
    let (code, after) = closed(&silent.connection).await;
    assert_eq!(code, Some(ErrorCode::DeadlineExceeded));
    assert!(after >= 10 * SECOND && after < 11 * SECOND, "{after:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_device_whose_heartbeats_stop_is_closed_although_its_path_is_alive() {
    let world = World::new(SECOND);
    let raw = world.raw().await;
    let stream = raw.connection.open().await.unwrap();
    let (mut tx, _rx) = RawStream::new(stream, None).with_kind(StreamKind::Control);
    let hello = v1::Hello { versions: vec![1], ..v1::Hello::default() };
    tx.write(&control(v1::control_up::Message::Hello(hello))).await.unwrap();
    let (code, after) = closed(&raw.connection).await;
    assert_eq!(code, Some(ErrorCode::DeadlineExceeded));
    assert!(after >= 100 * SECOND && after < 101 * SECOND, "three intervals of 30 s and 10 s: {after:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hello_without_a_common_version_is_refused_with_that_code() {
    let world = World::new(SECOND);
    let raw = world.raw().await;
    let stream = raw.connection.open().await.unwrap();
    let (mut tx, _rx) = RawStream::new(stream, None).with_kind(StreamKind::Control);
    let hello = v1::Hello { versions: vec![2, 3], ..v1::Hello::default() };
    tx.write(&control(v1::control_up::Message::Hello(hello))).await.unwrap();
    assert_eq!(closed(&raw.connection).await.0, Some(ErrorCode::VersionUnsupported));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_header_does_not_come_is_refused_and_delays_no_other() {
    let world = World::new(SECOND);
    world.reach(TunnelState::Up).await;
    let link = world.handle.shared.link.borrow().clone().unwrap();
    let mut slow = RawStream::new(link.connection.open().await.unwrap(), None);
    // One byte, so that the gateway learns of the stream.
    tokio::io::AsyncWriteExt::write_all(slow.tx.io_mut(), &[0]).await.unwrap();
    let start = Instant::now();
    let other = world.handle.open(StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, 2))).await.unwrap();
    match slow.rx.read::<v1::AskDown>().await {
        Err(FrameError::Refused(problem)) => assert_eq!(problem.code, ErrorCode::DeadlineExceeded.number()),
        other => panic!("{other:?}"),
    }
    assert!(start.elapsed() < 6 * SECOND, "{:?}", start.elapsed());
    assert_eq!(world.handle.status().borrow().state, TunnelState::Up);
    drop(other);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_too_many_is_refused_after_a_short_wait() {
    let world = World::new(SECOND);
    world.reach(TunnelState::Up).await;
    let header = |n| StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, n));
    let mut open = Vec::new();
    for n in 0..MAX_WORK_STREAMS {
        open.push(world.handle.open(header(n.into())).await.unwrap());
    }
    let start = Instant::now();
    assert!(matches!(world.handle.open(header(99)).await, Err(OpenError::Busy)));
    assert!(start.elapsed() <= 5 * SECOND);
    assert_eq!(world.handle.status().borrow().state, TunnelState::Up, "heartbeats go on");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_whose_run_is_dropped_claims_no_connection() {
    let mut world = World::new(SECOND);
    world.reach(TunnelState::Up).await;
    let mut events = world.handle.events();
    world.tasks.abort_all();
    world.reach(TunnelState::Offline).await;
    assert_eq!(events.recv().await, Ok(TunnelEvent::Down));
    let header = StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, 1));
    assert!(matches!(world.handle.open(header).await, Err(OpenError::Offline(_))));
    assert!(matches!(world.handle.ping().await, Err(PingError::Offline(_))));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_is_given_up_after_ten_seconds() {
    let mut world = World::new(SECOND);
    world.reach(TunnelState::Up).await;
    let dialling = async { dial(&world.identity, 60 * SECOND, &world.net).await };
    let silence = async {
        // The device's first packet has arrived, and no other will.
        tokio::time::sleep(DELAY + DELAY / 2).await;
        world.net.cut(true);
        let start = Instant::now();
        let error = world.refused.recv().await.unwrap();
        (error, start.elapsed())
    };
    // The device may think it is through; the gateway never sees its certificate.
    let (_dialled, (error, after)) = tokio::join!(dialling, silence);
    assert!(matches!(error, HandshakeError::TimedOut), "{error}");
    assert!(after > 9 * SECOND && after <= 10 * SECOND, "{after:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_is_looked_up_again_for_each_dial() {
    let world = World::new(SECOND);
    let name = "gateway.example:4433";
    world.net.name(name, ([10, 0, 0, 9], 4433).into());
    let failure = dial_at(name, &world.identity, SECOND, &world.net).await.unwrap_err();
    assert!(failure.reason.contains("no answer from 10.0.0.9:4433"), "{failure}");
    world.net.name(name, GATEWAY.parse().unwrap());
    let dialled = dial_at(name, &world.identity, SECOND, &world.net).await.unwrap();
    assert_eq!(dialled.connection.remote(), GATEWAY.parse().unwrap());
    world.end().await;
}
