//! More peers than there should be: too many handshakes at once, too many sessions of one device.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use synesis_mesh::device::TunnelState;
use synesis_mesh::identity::GATEWAY_SERVER_NAME;
use tokio::time::timeout;

use super::device::TestDevice;
use super::end_to_end::world;
use super::gateway::TestGateway;
use super::scripted_http::ScriptedHttp;

#[tokio::test]
async fn devices_come_in_one_after_another_through_the_narrowest_door() {
    let provider = ScriptedHttp::start(Vec::new()).await;
    // With room for one it is always crowded: each peer has to prove its address, and to leave the door free.
    let gateway = TestGateway::start_configured(&provider, "[limits]\nhandshakes = 1\n").await;
    let mut inside = Vec::new();
    for _ in 0..2 {
        let device = timeout(Duration::from_secs(20), TestDevice::enrol(&gateway, None)).await.unwrap();
        inside.push(device);
    }
    for device in inside {
        assert_eq!(device.tunnel.status().borrow().state, TunnelState::Up);
    }
    assert!(gateway.metrics.retries.value() >= 2, "each had to prove its address");
    assert_eq!(gateway.metrics.handshakes.value("device"), 2);
    assert_eq!(gateway.metrics.handshakes.value("enrolment"), 2);
}

/// First packets of devices that were never here: each begins a handshake that nobody goes on with.
fn first_packets(n: usize, gateway: &TestGateway) -> Vec<Vec<u8>> {
    // A listener that only takes down what dialling endpoints send first.
    let sink = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sink.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let address = sink.local_addr().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let ca = gateway.ca_pem();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&ca).map(Result::unwrap));
    let mut tls = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"synesis-enroll/1".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let dialler = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    // Kept: one that is given up says so, in a packet that is no first one.
    let (mut packets, mut dialling) = (Vec::new(), Vec::new());
    for _ in 0..n {
        dialling.push(dialler.connect_with(config.clone(), address, GATEWAY_SERVER_NAME).unwrap());
        let mut packet = vec![0; 2048];
        let len = tokio::task::block_in_place(|| sink.recv(&mut packet)).unwrap();
        packet.truncate(len);
        packets.push(packet);
    }
    packets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_handshakes_keep_nobody_else_out() {
    let provider = ScriptedHttp::start(Vec::new()).await;
    let gateway =
        TestGateway::start_configured(&provider, "[limits]\nhandshakes = 8\nsource_handshakes = 4\n").await;
    let hostile = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for packet in first_packets(64, &gateway) {
        hostile.send_to(&packet, gateway.address).unwrap();
    }
    // At most four of them are under way; the others are asked for a proof, which they do not give.
    let device = timeout(Duration::from_secs(8), TestDevice::enrol(&gateway, None)).await.unwrap();
    assert_eq!(device.tunnel.status().borrow().state, TunnelState::Up);
    assert!(gateway.metrics.retries.value() >= 50, "{}", gateway.metrics.retries.value());
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
