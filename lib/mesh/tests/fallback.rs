//! Where UDP does not get through: TLS over TCP, the way back to QUIC, proxies, strangers and hostile peers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{Device, GOOD_TOKEN, Gateway, Pki, SOON, ask, certificates, delta, silence};
use synesis_mesh::carrier::{Carrier, ConnectionLost};
use synesis_mesh::device::{Fallback, Proxy, TunnelConfig, TunnelState, enroll_over};
use synesis_mesh::identity::{DeviceIdentity, GATEWAY_SERVER_NAME};
use synesis_mesh::kind::{ALPN_MESH, StreamKind};
use synesis_mesh::stream::StreamHeader;
use synesis_proto::mesh::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use ulid::Ulid;

/// A device that dials `udp`, and falls back to `tcp` at once.
fn dialling(identity: DeviceIdentity, udp: SocketAddr, tcp: u16) -> Device {
    dialling_through(identity, udp, Fallback::Auto { port: tcp, proxy: None })
}

fn dialling_through(identity: DeviceIdentity, udp: SocketAddr, fallback: Fallback) -> Device {
    Device::with(Some(identity), |config| quick(config, udp, fallback))
}

fn quick(config: &mut TunnelConfig, udp: SocketAddr, fallback: Fallback) {
    config.endpoints = vec![udp.to_string()];
    config.fallback = fallback;
    config.timing.tcp_after = Duration::from_millis(50);
    config.timing.connect_timeout = Duration::from_millis(500);
}

fn tcp_port(gateway: &Gateway) -> u16 {
    gateway.endpoint.tcp_addr().unwrap().port()
}

#[tokio::test]
async fn without_udp_the_tunnel_comes_up_over_tcp_and_says_why() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let (_socket, nobody) = silence();
    let device = dialling(pki.device(gateway.address), nobody, tcp_port(&gateway));
    let status = device.reach(TunnelState::Up).await;
    assert_eq!(status.transport, Some(Carrier::Tcp));
    let reason = format!("UDP to {nobody} got no answer; connected over TCP, trying UDP again");
    assert_eq!(status.reason, Some(reason));
    assert_eq!(status.next_step, Some(format!("open UDP to {nobody} in the firewall")));
    let session = gateway.session().await;
    device.handle.ping().await.unwrap();
    assert_eq!(session.carrier(), Carrier::Tcp);
    let (sent, received) = session.traffic();
    assert!(sent > 0 && received > 0);
}

#[tokio::test]
async fn a_gateway_proves_itself_over_tcp_with_the_certificate_it_has_now() {
    let (pki, next) = (Pki::new(), Pki::new());
    let gateway = Gateway::start(&pki);
    let (_socket, nobody) = silence();
    let device = dialling(next.device(nobody), nobody, tcp_port(&gateway));
    assert!(device.reach(TunnelState::Backoff).await.reason.unwrap().contains("is not the gateway"));
    gateway.endpoint.renew_tls(&next.tls()).unwrap();
    device.reach(TunnelState::Up).await;
}

#[tokio::test]
async fn quic_wins_where_both_get_through() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let device = Device::with(Some(pki.device(gateway.address)), |config| {
        quick(config, gateway.address, Fallback::Auto { port: tcp_port(&gateway), proxy: None });
        config.timing.tcp_after = SOON / 2;
        config.timing.connect_timeout = SOON;
    });
    let status = device.reach(TunnelState::Up).await;
    assert_eq!((status.transport, status.reason), (Some(Carrier::Quic), None));
}

#[tokio::test]
async fn switched_off_it_is_not_tried() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let (_socket, nobody) = silence();
    let device = dialling_through(pki.device(gateway.address), nobody, Fallback::Off);
    let status = device.reach(TunnelState::Backoff).await;
    assert!(!status.reason.unwrap().contains("TCP"));
    assert!(gateway.sessions.try_recv().is_err());
}

#[tokio::test]
async fn a_gateway_without_either_is_told_with_both_reasons() {
    let pki = Pki::new();
    let (_udp, nobody) = silence();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let status = dialling(pki.device(nobody), nobody, closed).reach(TunnelState::Backoff).await;
    let reason = status.reason.unwrap();
    assert!(
        reason.contains("could not be reached: no answer from") && reason.contains("; over TCP: "),
        "{reason}"
    );
    assert!(status.next_step.unwrap().contains("TCP"));
}

/// UDP from its address to the gateway's and back, once it is open.
struct Relay {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl Relay {
    async fn shut(gateway: SocketAddr) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (address, open) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let mut task = JoinSet::new();
        task.spawn(relay(socket, gateway, open.clone()));
        Self { address, open, _task: task }
    }
}

async fn relay(socket: Arc<UdpSocket>, gateway: SocketAddr, open: Arc<AtomicBool>) {
    let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut back = JoinSet::new();
    let mut bytes = [0; 2048];
    while let Ok((len, device)) = socket.recv_from(&mut bytes).await {
        if !open.load(Ordering::Relaxed) {
            continue;
        }
        if let Entry::Vacant(unseen) = ways.entry(device) {
            let way = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
            way.connect(gateway).await.unwrap();
            unseen.insert(way.clone());
            let socket = socket.clone();
            back.spawn(async move {
                let mut bytes = [0; 2048];
                while let Ok(len) = way.recv(&mut bytes).await {
                    let _ = socket.send_to(&bytes[..len], device).await;
                }
            });
        }
        let _ = ways[&device].send(&bytes[..len]).await;
    }
}

#[tokio::test]
async fn when_udp_heals_new_work_goes_over_quic_and_the_running_answer_finishes_over_tcp() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let relay = Relay::shut(gateway.address).await;
    let device = Device::with(Some(pki.device(gateway.address)), |config| {
        quick(config, relay.address, Fallback::Auto { port: tcp_port(&gateway), proxy: None });
        config.timing.seek_every = Duration::from_millis(100);
    });
    let mut news = device.handle.events();
    let before = device.reach(TunnelState::Up).await;
    assert_eq!(before.transport, Some(Carrier::Tcp));
    let first = gateway.session().await;
    let header = |n| StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, n));
    let mut running = device.handle.open(header(1)).await.unwrap();
    running.tx.write(&ask(b"before")).await.unwrap();
    assert_eq!(running.rx.read().await.unwrap(), Some(delta(1, "before".into())));

    relay.open.store(true, Ordering::Relaxed);
    let after = device.status(|status| status.transport == Some(Carrier::Quic)).await;
    assert_eq!((after.state, after.reason, after.next_step), (TunnelState::Up, None, None));
    assert_eq!(after.connected_since, before.connected_since, "it was up all the time");
    let second = gateway.session().await;
    assert_ne!(first.remote(), second.remote());

    let mut fresh = device.handle.open(header(2)).await.unwrap();
    fresh.tx.write(&ask(b"over QUIC")).await.unwrap();
    assert_eq!(fresh.rx.read().await.unwrap(), Some(delta(1, "over QUIC".into())));
    running.tx.write(&ask(b"after")).await.unwrap();
    assert_eq!(running.rx.read().await.unwrap(), Some(delta(2, "after".into())));
    running.tx.finish().await.unwrap();
    assert_eq!(running.rx.read::<v1::AskDown>().await.unwrap(), None);
    drop(running);
    timeout(SOON, first.closed()).await.expect("the old connection ends with its last stream");
    let heard = std::iter::from_fn(|| news.try_recv().ok()).collect::<Vec<_>>();
    assert!(!heard.contains(&synesis_mesh::device::TunnelEvent::Down), "{heard:?}");
}

#[tokio::test]
async fn a_device_enrols_over_tcp() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let (_socket, nobody) = silence();
    let fallback = Fallback::Auto { port: tcp_port(&gateway), proxy: None };
    let ca = pki.server_ca.certificate_pem();
    let enrolled = enroll_over(&nobody.to_string(), ca.as_bytes(), GOOD_TOKEN, "test/1", &fallback).await;
    assert_eq!(enrolled.unwrap().gateway, nobody.to_string());
    let refused = enroll_over(&nobody.to_string(), ca.as_bytes(), "expired", "test/1", &fallback).await;
    assert!(refused.unwrap_err().to_string().contains("the token has expired"));
}

/// What a proxy does with the first connection, and all others.
#[derive(Clone, Copy)]
enum Does {
    Connect,
    Answer(&'static [u8]),
    Endless,
    Hang,
}

/// An HTTP proxy that knows CONNECT, and what it was asked.
struct FakeProxy {
    address: SocketAddr,
    asked: tokio::sync::mpsc::Receiver<String>,
    _task: JoinSet<()>,
}

impl FakeProxy {
    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked_in, asked) = tokio::sync::mpsc::channel(64);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                served.spawn(proxied(stream, does, asked_in.clone()));
            }
        });
        Self { address, asked, _task: task }
    }

    fn fallback(&self, port: u16) -> Fallback {
        let proxy = Proxy { address: self.address.to_string(), credentials_file: None };
        Fallback::Auto { port, proxy: Some(proxy) }
    }
}

async fn proxied(mut stream: TcpStream, does: Does, asked: tokio::sync::mpsc::Sender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let _ = asked.try_send(head);
    match does {
        Does::Connect => {
            let mut upstream = TcpStream::connect(target).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut upstream).await;
        }
        Does::Answer(answer) => {
            let _ = stream.write_all(answer).await;
            let _ = stream.read_u8().await;
        }
        Does::Endless => while stream.write_all(&[b'x'; 1024]).await.is_ok() {},
        Does::Hang => drop(stream.read_u8().await),
    }
}

#[tokio::test]
async fn a_proxy_is_the_way_for_tcp_and_for_nothing_else() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let mut proxy = FakeProxy::start(Does::Connect).await;
    let (_socket, nobody) = silence();
    let fallback = proxy.fallback(tcp_port(&gateway));
    let device = dialling_through(pki.device(gateway.address), nobody, fallback);
    assert_eq!(device.reach(TunnelState::Up).await.transport, Some(Carrier::Tcp));
    gateway.session().await;
    let target = format!("127.0.0.1:{}", tcp_port(&gateway));
    assert!(proxy.asked.recv().await.unwrap().starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")));

    let direct = Device::with(Some(pki.device(gateway.address)), |config| {
        quick(config, gateway.address, proxy.fallback(tcp_port(&gateway)));
        config.timing.tcp_after = SOON;
        config.timing.connect_timeout = SOON;
    });
    assert_eq!(direct.reach(TunnelState::Up).await.transport, Some(Carrier::Quic));
    assert!(proxy.asked.try_recv().is_err());
}

#[tokio::test]
async fn what_is_wrong_with_a_proxy_is_told_with_what_to_do() {
    let pki = Pki::new();
    let (_socket, nobody) = silence();
    let cases = [
        (
            Does::Answer(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
            "407",
            "proxy_credentials_file",
        ),
        (Does::Answer(b"HTTP/1.1 403 Forbidden\r\n\r\n"), "403", "allow CONNECT"),
        (Does::Answer(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"), "503", "listens on TCP"),
        (Does::Answer(b"220 mail.example.com ESMTP\r\n"), "not HTTP", "gateway.proxy"),
        (Does::Endless, "not HTTP", "gateway.proxy"),
        (Does::Hang, "no answer", "gateway.proxy"),
    ];
    for (does, reason, next) in cases {
        let proxy = FakeProxy::start(does).await;
        let device = dialling_through(pki.device(nobody), nobody, proxy.fallback(443));
        let status = device.reach(TunnelState::Backoff).await;
        let told = status.reason.unwrap();
        assert!(told.contains("through the proxy") && told.contains(reason), "{told}");
        let step = status.next_step.unwrap();
        assert!(step.contains(next), "{step}");
    }
}

#[tokio::test]
async fn a_stranger_on_the_tcp_port_is_no_refusal_by_the_gateway() {
    let (pki, other) = (Pki::new(), Pki::new());
    let stranger = Gateway::start(&other);
    let (_socket, nobody) = silence();
    let device = Device::with(Some(pki.device(nobody)), |config| {
        quick(config, nobody, Fallback::Auto { port: tcp_port(&stranger), proxy: None });
        config.timing.backoff.base = Duration::from_secs(60);
    });
    let status = device.reach(TunnelState::Backoff).await;
    let reason = status.reason.unwrap();
    assert!(
        reason.contains("could not be reached") && reason.contains("who answered is not the gateway"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_certificate_is_refused_over_tcp_in_the_same_words() {
    let (pki, other) = (Pki::new(), Pki::new());
    let mut gateway = Gateway::start(&pki);
    let (_socket, nobody) = silence();
    let mut identity = other.device(nobody);
    identity.ca = certificates(&pki.server_ca.certificate_pem());
    let device = dialling(identity, nobody, tcp_port(&gateway));
    let status = device.reach(TunnelState::Backoff).await;
    let reason = status.reason.unwrap();
    assert!(reason.contains("the gateway refused this device's certificate"), "{reason}");
    assert!(gateway.refusal().await.contains("not signed by a CA of this gateway"));
}

#[tokio::test]
async fn garbage_instead_of_tls_is_refused_and_harms_nobody() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let mut peer = TcpStream::connect(gateway.endpoint.tcp_addr().unwrap()).await.unwrap();
    peer.write_all(b"GET / HTTP/1.1\r\nhost: gateway\r\n\r\n").await.unwrap();
    assert!(gateway.refusal().await.contains("does not speak TLS"));
    let mut rest = Vec::new();
    timeout(SOON, peer.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
    let (_socket, nobody) = silence();
    dialling(pki.device(nobody), nobody, tcp_port(&gateway)).reach(TunnelState::Up).await;
}

/// A TLS connection to the gateway's TCP port, with or without a client certificate.
async fn secured(
    pki: &Pki,
    gateway: &Gateway,
    identity: Option<&DeviceIdentity>,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    use rustls_pki_types::PrivateKeyDer;
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificates(&pki.server_ca.certificate_pem()).remove(0)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut tls = match identity {
        Some(identity) => {
            let key = PrivateKeyDer::from_pem_slice(identity.key.to_pem().unwrap().as_bytes()).unwrap();
            builder.with_client_auth_cert(identity.chain.clone(), key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![ALPN_MESH.to_vec()];
    let stream = TcpStream::connect(gateway.endpoint.tcp_addr().unwrap()).await.unwrap();
    let name = GATEWAY_SERVER_NAME.try_into().unwrap();
    TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap()
}

#[tokio::test]
async fn the_mesh_protocol_without_a_client_certificate_is_refused_over_tcp_too() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let mut peer = secured(&pki, &gateway, None).await;
    assert!(gateway.refusal().await.contains("no certificate"));
    let mut said = Vec::new();
    // The gateway's last words, in a record on a stream of their own; how TLS then ends is its own affair.
    let _ = timeout(SOON, peer.read_to_end(&mut said)).await.expect("it is closed");
    assert!(String::from_utf8_lossy(&said).contains("the device showed no certificate"));
}

#[tokio::test]
async fn garbage_after_tls_ends_that_connection_alone() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let (_socket, nobody) = silence();
    let device = dialling(pki.device(nobody), nobody, tcp_port(&gateway));
    device.reach(TunnelState::Up).await;
    let session = gateway.session().await;

    let mut peer = secured(&pki, &gateway, Some(&pki.device(nobody))).await;
    peer.write_all(&[0xff; 4096]).await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(SOON, peer.read_to_end(&mut rest)).await.expect("it is closed");
    device.handle.ping().await.unwrap();
    assert_eq!(device.handle.status().borrow().state, TunnelState::Up);
    drop(device);
    let cause = timeout(SOON, session.closed()).await.unwrap();
    assert!(matches!(cause, ConnectionLost::Closed { .. }), "{cause}");
}

#[tokio::test]
async fn a_closing_gateway_closes_its_tcp_connections_with_its_reason() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let (_socket, nobody) = silence();
    let device = dialling(pki.device(nobody), nobody, tcp_port(&gateway));
    device.reach(TunnelState::Up).await;
    gateway.endpoint.close(synesis_mesh::kind::ErrorCode::Draining, "the gateway is stopping");
    let status = device.status(|status| status.state != TunnelState::Up).await;
    assert!(status.reason.unwrap().contains("the gateway is stopping"));
    timeout(SOON, gateway.endpoint.wait_idle()).await.expect("all are gone");
}
