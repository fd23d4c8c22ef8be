//! The life of an identity: renewal, coming back after a long time, clocks that are wrong, and changing CAs. Whole years
//! pass by turning clocks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use support::{Device, Pki, SOON};
use synesis_mesh::device::{TunnelHandle, TunnelState};
use synesis_mesh::gateway::{Accepted, Dates, GatewayEndpoint, GatewayTls, HandshakeError, Session};
use synesis_mesh::identity::{Ca, CaKind, DeviceIdentity, WallClock, fingerprint};
use synesis_mesh::kind::{CLOCK_SKEW, ErrorCode};
use synesis_proto::mesh::v1;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use zeroize::Zeroizing;

const DAY: i64 = 86_400;

/// A clock that is off by so many seconds.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicI64>);

impl Hand {
    fn days(days: i64) -> Self {
        Self(Arc::new(AtomicI64::new(days * DAY)))
    }

    fn clock(&self) -> WallClock {
        let off = self.0.clone();
        WallClock::of(move || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let seconds = i64::try_from(now.as_secs()).unwrap() + off.load(Ordering::SeqCst);
            UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        })
    }
}

/// A clock that stands at the epoch, as on a board without a battery.
fn epoch() -> WallClock {
    WallClock::of(|| UNIX_EPOCH)
}

/// What a gateway says about CAs.
#[derive(Clone, Default)]
struct Trust {
    named: Vec<Bytes>,
    retired: Vec<Bytes>,
}

/// A gateway that renews, at a time of its own.
struct Gateway {
    address: SocketAddr,
    endpoint: GatewayEndpoint,
    sessions: mpsc::Receiver<(Arc<Session>, v1::Hello)>,
    refused: mpsc::Receiver<HandshakeError>,
    trust: Arc<Mutex<Trust>>,
    _tasks: JoinSet<()>,
}

struct Desk {
    pki: Arc<Pki>,
    clock: WallClock,
    sessions: mpsc::Sender<(Arc<Session>, v1::Hello)>,
    refused: mpsc::Sender<HandshakeError>,
    trust: Arc<Mutex<Trust>>,
    willing: bool,
}

impl Gateway {
    fn start(pki: &Arc<Pki>, clock: &Hand) -> Self {
        Self::with(pki, clock, true, |_| {})
    }

    fn with(pki: &Arc<Pki>, clock: &Hand, willing: bool, adjust: impl FnOnce(&mut GatewayTls)) -> Self {
        let dates = Dates { clock: clock.clock(), ..Dates::default() };
        let mut tls = GatewayTls { dates, ..pki.tls() };
        adjust(&mut tls);
        let endpoint = GatewayEndpoint::bind(&tls, ([127, 0, 0, 1], 0).into()).unwrap();
        let (sessions_in, sessions) = mpsc::channel(64);
        let (refused_in, refused) = mpsc::channel(64);
        let trust = Arc::new(Mutex::new(Trust::default()));
        let desk = Arc::new(Desk {
            pki: pki.clone(),
            clock: clock.clock(),
            sessions: sessions_in,
            refused: refused_in,
            trust: trust.clone(),
            willing,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(endpoint.clone(), desk));
        let address = endpoint.local_addr().unwrap();
        Self { address, endpoint, sessions, refused, trust, _tasks: tasks }
    }

    async fn session(&mut self) -> (Arc<Session>, v1::Hello) {
        timeout(SOON, self.sessions.recv()).await.expect("a session in time").unwrap()
    }

    async fn refusal(&mut self) -> HandshakeError {
        timeout(SOON, self.refused.recv()).await.expect("a refusal in time").unwrap()
    }
}

async fn serve(endpoint: GatewayEndpoint, desk: Arc<Desk>) {
    let mut peers = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        let desk = desk.clone();
        peers.spawn(async move {
            match incoming.handshake().await {
                Ok(Accepted::Enroll(mut connection)) => {
                    let request = connection.request().await.unwrap();
                    let Some(known) = connection.certificate().filter(|_| request.renew && desk.willing)
                    else {
                        return connection.refuse(ErrorCode::Revoked, "not this one", "").await.unwrap();
                    };
                    let (chain, device_id) = (desk.sign(&request.csr_der, known.device_id), known.device_id);
                    let enrolled = v1::Enrolled {
                        device_id: device_id.to_string(),
                        certificate_chain: chain,
                        ..v1::Enrolled::default()
                    };
                    let message = Some(v1::enroll_reply::Message::Enrolled(enrolled));
                    connection.reply(v1::EnrollReply { message }).await.unwrap();
                }
                Ok(Accepted::Device(mut device)) => {
                    let hello = device.hello().await.unwrap();
                    let Trust { named, retired } = desk.trust.lock().unwrap().clone();
                    let now = desk.clock.now().duration_since(UNIX_EPOCH).unwrap();
                    let welcome = v1::Welcome {
                        server_time_ms: u64::try_from(now.as_millis()).unwrap(),
                        server_ca: named,
                        retired,
                        ..v1::Welcome::default()
                    };
                    let session = Arc::new(device.welcome(welcome).await.unwrap());
                    desk.sessions.send((session.clone(), hello)).await.unwrap();
                    while let Some(renewing) = session.renewal().await {
                        let renewed = if desk.willing {
                            let certificate_chain = desk.sign(&renewing.csr_der, session.device_id());
                            v1::Renewed { certificate_chain, ..v1::Renewed::default() }
                        } else {
                            let problem = Some(ErrorCode::StoreFailed.problem("the disk is full", "wait"));
                            v1::Renewed { problem, ..v1::Renewed::default() }
                        };
                        let _ = renewing.answer(renewed).await;
                    }
                }
                Err(error) => desk.refused.send(error).await.unwrap(),
            }
        });
    }
}

impl Desk {
    fn sign(&self, csr: &[u8], device: uuid::Uuid) -> Vec<Bytes> {
        let issued = self.pki.device_ca.sign_device_csr_at(csr, device, self.clock.now()).unwrap();
        issued.chain.iter().map(|der| der.to_vec().into()).collect()
    }
}

/// What the daemon does with a renewed identity: stores it, reads it back, uses it.
async fn keep(tunnel: TunnelHandle, folder: tempfile::TempDir) {
    let mut renewals = tunnel.renewals();
    while renewals.changed().await.is_ok() {
        let renewed = renewals.borrow_and_update().clone().unwrap();
        renewed.save(folder.path()).unwrap();
        tunnel.set_identity(DeviceIdentity::load(folder.path()).unwrap().map(Arc::new));
    }
}

/// A device with this clock whose identity is kept.
fn kept(identity: DeviceIdentity, clock: WallClock) -> (Device, JoinSet<()>) {
    let device = Device::with(Some(identity), |config| config.clock = clock);
    let mut keeping = JoinSet::new();
    keeping.spawn(keep(device.handle.clone(), tempfile::tempdir().unwrap()));
    (device, keeping)
}

#[tokio::test]
async fn after_two_thirds_of_its_life_a_certificate_is_renewed_with_a_new_key_and_the_device_moves() {
    let (pki, clock) = (Pki::new(), Hand::days(300));
    let mut gateway = Gateway::start(&pki, &clock);
    let identity = pki.device(gateway.address);
    let (old_key, old_end) = (identity.key.public_der().unwrap(), identity.not_after().unwrap());
    let (device, _keeping) = kept(identity, clock.clock());
    let (first, _) = gateway.session().await;
    let (second, _) = gateway.session().await;
    timeout(SOON, first.closed()).await.expect("the connection of the old certificate is left");
    assert_eq!(first.device_id(), second.device_id());
    let renewed = device.handle.identity().unwrap();
    assert_ne!(renewed.key.public_der().unwrap(), old_key);
    assert!(renewed.not_after().unwrap() > old_end + Duration::from_secs(200 * 86_400));
    device.reach(TunnelState::Up).await;
}

#[tokio::test]
async fn a_device_that_lost_the_date_renews_by_the_gateways() {
    let (pki, clock) = (Pki::new(), Hand::days(300));
    let mut gateway = Gateway::start(&pki, &clock);
    let (device, _keeping) = kept(pki.device(gateway.address), epoch());
    gateway.session().await;
    gateway.session().await;
    let status = device.status(|status| status.clock_offset_ms.is_some()).await;
    assert!(status.clock_offset_ms.unwrap() > 50 * 365 * DAY * 1000);
}

#[tokio::test]
async fn a_refused_renewal_is_told_and_the_tunnel_stays_up() {
    let (pki, clock) = (Pki::new(), Hand::days(300));
    let mut gateway = Gateway::with(&pki, &clock, false, |_| {});
    let (device, _keeping) = kept(pki.device(gateway.address), clock.clock());
    gateway.session().await;
    let status = device.status(|status| status.renewal.is_some()).await;
    assert_eq!(status.state, TunnelState::Up);
    assert_eq!(status.renewal.unwrap(), "the gateway refused: the disk is full");
}

#[tokio::test]
async fn a_device_that_was_away_for_400_days_comes_back_by_itself() {
    let (pki, clock) = (Pki::new(), Hand::days(400));
    let mut gateway = Gateway::start(&pki, &clock);
    for clock in [clock.clock(), epoch()] {
        let (device, _keeping) = kept(pki.device(gateway.address), clock);
        assert!(matches!(gateway.refusal().await, HandshakeError::Expired(_)));
        gateway.session().await;
        device.reach(TunnelState::Up).await;
    }
}

#[tokio::test]
async fn a_device_that_was_away_for_800_days_is_told_to_enrol_again() {
    let (pki, clock) = (Pki::new(), Hand::days(800));
    let mut gateway = Gateway::start(&pki, &clock);
    let (device, _keeping) = kept(pki.device(gateway.address), clock.clock());
    assert!(matches!(gateway.refusal().await, HandshakeError::Certificate(_)));
    let status = device.reach(TunnelState::Backoff).await;
    assert!(status.reason.unwrap().contains("longer ago than the gateway's grace"));
    assert!(status.next_step.unwrap().contains("new token"));
}

#[tokio::test]
async fn a_device_that_was_revoked_while_it_was_away_stays_out() {
    let (pki, clock) = (Pki::new(), Hand::days(400));
    let gateway = Gateway::with(&pki, &clock, false, |_| {});
    let (device, _keeping) = kept(pki.device(gateway.address), clock.clock());
    device.reach(TunnelState::Revoked).await;
}

/// The gateway's certificate was made so many days from now; the device's is of today.
fn younger(pki: &Pki, days: u64) -> impl FnOnce(&mut GatewayTls) + use<> {
    let made = SystemTime::now() + Duration::from_secs(days * 86_400);
    let certificate = pki.server_ca.issue_server_at(&[], made).unwrap();
    move |tls| {
        tls.chain_pem = certificate.chain_pem;
        tls.key_pem = Zeroizing::new(certificate.key_pem.to_string());
    }
}

#[tokio::test]
async fn a_device_that_woke_up_in_1970_trusts_a_gateway_whose_certificate_is_younger_than_its_own() {
    let (pki, clock) = (Pki::new(), Hand::days(101));
    let gateway = Gateway::with(&pki, &clock, true, younger(&pki, 100));
    let (device, _keeping) = kept(pki.device(gateway.address), epoch());
    device.reach(TunnelState::Up).await;
}

#[tokio::test]
async fn a_devices_clock_may_be_a_day_slow_and_not_more() {
    let (pki, clock) = (Pki::new(), Hand::days(100));
    let gateway = Gateway::with(&pki, &clock, true, younger(&pki, 100));
    let slow = |seconds: i64| Hand(Arc::new(AtomicI64::new(100 * DAY - seconds)));
    let skew = i64::try_from(CLOCK_SKEW.as_secs()).unwrap();
    let (device, _keeping) = kept(pki.device(gateway.address), slow(skew).clock());
    device.reach(TunnelState::Up).await;
    // A certificate counts from an hour before it was made.
    let (device, _keeping) = kept(pki.device(gateway.address), slow(skew + 2 * 3600).clock());
    let status = device.reach(TunnelState::Backoff).await;
    assert!(status.reason.unwrap().contains("did not prove itself"));
}

#[tokio::test]
async fn a_gateways_clock_may_be_a_day_slow_and_not_more() {
    let pki = Pki::new();
    let slow = |hours: i64| Hand(Arc::new(AtomicI64::new(-hours * 3600)));
    let gateway = Gateway::start(&pki, &slow(24));
    Device::start(Some(pki.device(gateway.address))).reach(TunnelState::Up).await;
    let mut gateway = Gateway::start(&pki, &slow(26));
    let device = Device::start(Some(pki.device(gateway.address)));
    assert!(gateway.refusal().await.to_string().contains("not valid yet"));
    assert!(device.reach(TunnelState::Backoff).await.reason.unwrap().contains("not valid yet"));
}

#[tokio::test]
async fn a_next_server_ca_is_trusted_confirmed_and_outlives_the_former_one() {
    let (pki, clock) = (Pki::new(), Hand::default());
    let mut gateway = Gateway::start(&pki, &clock);
    let (online, _keeping) = kept(pki.device(gateway.address), clock.clock());
    let away = pki.device(gateway.address);
    let (session, hello) = gateway.session().await;
    let old = fingerprint(pki.server_ca.certificate());
    assert_eq!(hello.pinned, [Bytes::from(old.to_vec())]);

    // A next CA: who is connected hears of it, trusts it, and says so on its next connection.
    let next = Ca::generate(CaKind::Server, &pki.domain).unwrap();
    let named = [&pki.server_ca, &next].map(|ca| Bytes::from(ca.certificate().to_vec())).to_vec();
    *gateway.trust.lock().unwrap() = Trust { named: named.clone(), retired: Vec::new() };
    session.trust(named, Vec::new()).await.unwrap();
    let (_, hello) = gateway.session().await;
    assert_eq!(hello.pinned.len(), 2);

    // It takes over. A device that was away knows only the former one, and is shown that certificate.
    let (former, server) = (pki.tls(), next.issue_server(&[]).unwrap());
    let switched = GatewayTls {
        chain_pem: server.chain_pem.clone(),
        key_pem: Zeroizing::new(server.key_pem.to_string()),
        also: vec![(former.chain_pem, former.key_pem)],
        ..pki.tls()
    };
    gateway.endpoint.renew_tls(&switched).unwrap();
    let (away, _keeping_too) = kept(away, clock.clock());
    let (_, hello) = gateway.session().await;
    assert_eq!(hello.pinned, [Bytes::from(old.to_vec())]);
    let (_, hello) = gateway.session().await;
    assert_eq!(hello.pinned.len(), 2, "confirmed");

    // The former one is retired: both forget it, and both still come in.
    gateway.endpoint.renew_tls(&GatewayTls { also: Vec::new(), ..switched }).unwrap();
    let named = vec![next.certificate().to_vec().into()];
    *gateway.trust.lock().unwrap() = Trust { named, retired: vec![old.to_vec().into()] };
    for device in [&online, &away] {
        device.reach(TunnelState::Up).await;
        device.handle.reconnect();
        let (_, hello) = gateway.session().await;
        assert_eq!(hello.pinned.len(), 2);
        let (_, hello) = gateway.session().await;
        assert_eq!(hello.pinned, [Bytes::from(next.fingerprint().to_vec())]);
        device.reach(TunnelState::Up).await;
    }
}
