//! Who is let in and who is trusted: each bad certificate is refused by the end that has to refuse it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use support::{Device, Gateway, Pki, certificates};
use synesis_mesh::device::TunnelState;
use synesis_mesh::gateway::GatewayTls;
use synesis_mesh::identity::{Ca, DeviceIdentity, DeviceKey, GATEWAY_SERVER_NAME};
use synesis_mesh::kind::{ALPN_MESH, ErrorCode};
use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

const DAY: time::Duration = time::Duration::DAY;

/// A client certificate as the device CA would issue it, to be spoilt.
fn good_params(domain: &str, device_id: Uuid) -> CertificateParams {
    let mut params = CertificateParams::default();
    let uri = format!("spiffe://{domain}/device/{device_id}");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = OffsetDateTime::now_utc() - DAY;
    params.not_after = OffsetDateTime::now_utc() + DAY;
    params
}

fn sign(ca: &Ca, params: &CertificateParams) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let ca_key = KeyPair::from_pem(&ca.key_pem().unwrap()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate_pem(), ca_key).unwrap();
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

/// A device with this certificate instead of its own.
fn with_certificate(mut device: DeviceIdentity, (chain, key): (String, String)) -> DeviceIdentity {
    device.chain = certificates(&chain);
    device.key = DeviceKey::from_pem(&key).unwrap();
    device
}

/// Both ends' words on a device with a certificate made by `make`.
async fn refused(pki: &Arc<Pki>, make: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut gateway = Gateway::start(pki);
    let mut params = good_params(pki.domain.as_str(), Uuid::new_v4());
    make(&mut params);
    let identity = with_certificate(pki.device(gateway.address), sign(&pki.device_ca, &params));
    let device = Device::start(Some(identity));
    let gateways_word = gateway.refusal().await;
    let status = device.reach(TunnelState::Backoff).await;
    assert!(status.next_step.is_some());
    assert!(gateway.sessions.try_recv().is_err());
    (gateways_word, status.reason.unwrap())
}

#[tokio::test]
async fn the_unspoilt_certificate_is_accepted() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let params = good_params(pki.domain.as_str(), Uuid::new_v4());
    let identity = with_certificate(pki.device(gateway.address), sign(&pki.device_ca, &params));
    Device::start(Some(identity)).reach(TunnelState::Up).await;
}

#[tokio::test]
async fn a_device_of_another_ca_is_refused() {
    let (pki, other) = (Pki::new(), Pki::new());
    let mut gateway = Gateway::start(&pki);
    let mut identity = other.device(gateway.address);
    identity.ca = certificates(&pki.server_ca.certificate_pem());
    let device = Device::start(Some(identity));
    let gateways_word = gateway.refusal().await;
    assert!(gateways_word.contains("not signed by a CA of this gateway"), "{gateways_word}");
    let reason = device.reach(TunnelState::Backoff).await.reason.unwrap();
    assert!(reason.contains("not signed by a CA of this gateway"), "{reason}");
}

#[tokio::test]
async fn a_self_signed_device_is_refused() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let key = KeyPair::generate().unwrap();
    let certificate = good_params(pki.domain.as_str(), Uuid::new_v4()).self_signed(&key).unwrap();
    let own = (certificate.pem(), key.serialize_pem());
    let device = Device::start(Some(with_certificate(pki.device(gateway.address), own)));
    let gateways_word = gateway.refusal().await;
    assert!(gateways_word.contains("not signed by a CA of this gateway"), "{gateways_word}");
    let reason = device.reach(TunnelState::Backoff).await.reason.unwrap();
    assert!(reason.contains("not signed by a CA of this gateway"), "{reason}");
}

#[tokio::test]
async fn a_certificate_that_expired_beyond_the_grace_is_refused_and_called_so() {
    let (gateway, device) = refused(&Pki::new(), |params| {
        params.not_before = OffsetDateTime::now_utc() - DAY * 1000;
        params.not_after = OffsetDateTime::now_utc() - DAY * 366;
    })
    .await;
    for word in [gateway, device] {
        assert!(word.contains("expired, longer ago than the gateway's grace"), "{word}");
    }
}

#[tokio::test]
async fn an_expired_certificate_opens_no_tunnel_and_is_called_so() {
    // The test's gateway renews only devices it knows by name.
    let (gateway, device) =
        refused(&Pki::new(), |params| params.not_after = OffsetDateTime::now_utc() - DAY / 2).await;
    assert!(gateway.contains("the device's certificate has expired"), "{gateway}");
    assert!(device.contains("TOKEN_INVALID"), "{device}");
}

#[tokio::test]
async fn a_certificate_of_the_day_after_tomorrow_is_refused() {
    let (gateway, device) = refused(&Pki::new(), |params| {
        params.not_before = OffsetDateTime::now_utc() + DAY * 2;
        params.not_after = OffsetDateTime::now_utc() + DAY * 3;
    })
    .await;
    for word in [gateway, device] {
        assert!(word.contains("not valid yet by the gateway's clock"), "{word}");
    }
}

#[tokio::test]
async fn a_certificate_without_a_name_is_refused() {
    let (gateway, device) = refused(&Pki::new(), |params| params.subject_alt_names.clear()).await;
    for word in [gateway, device] {
        assert!(word.contains("names no device of this gateway"), "{word}");
    }
}

#[tokio::test]
async fn a_certificate_that_names_no_device_is_refused() {
    let name = |uri: &str| SanType::URI(uri.to_owned().try_into().unwrap());
    for uri in ["spiffe://test.example/gateway/1", "spiffe://test.example/device/1", "https://test.example/"]
    {
        let (_, device) = refused(&Pki::new(), |params| params.subject_alt_names = vec![name(uri)]).await;
        assert!(device.contains("names no device of this gateway"), "{device}");
    }
}

#[tokio::test]
async fn a_name_of_another_trust_domain_is_refused() {
    let (_, device) = refused(&Pki::new(), |params| {
        *params = good_params("other.example", Uuid::new_v4());
    })
    .await;
    assert!(device.contains("names no device of this gateway"), "{device}");
}

#[tokio::test]
async fn a_server_certificate_is_no_client_certificate() {
    let server_only = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let (gateway, device) = refused(&Pki::new(), server_only).await;
    for word in [gateway, device] {
        assert!(word.contains("it is not for clients"), "{word}");
    }
    let (_, device) = refused(&Pki::new(), |params| params.extended_key_usages.clear()).await;
    assert!(device.contains("names no device of this gateway"), "{device}");
}

#[tokio::test]
async fn the_mesh_protocol_without_a_client_certificate_is_refused() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let connection = anonymous(&pki, gateway.address, ALPN_MESH).await.unwrap();
    match connection.closed().await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            let code = ErrorCode::from_number(close.error_code.into_inner());
            assert_eq!(code, Some(ErrorCode::UnknownDevice));
        }
        other => panic!("{other}"),
    }
    assert!(gateway.refusal().await.contains("no certificate"));
}

#[tokio::test]
async fn a_protocol_nobody_speaks_is_refused_in_the_handshake() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    assert!(anonymous(&pki, gateway.address, b"h3").await.is_err());
    assert!(gateway.refusal().await.contains("handshake failed"));
}

async fn anonymous(
    pki: &Pki,
    gateway: SocketAddr,
    alpn: &[u8],
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificates(&pki.server_ca.certificate_pem()).remove(0)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.connect_with(config, gateway, GATEWAY_SERVER_NAME).unwrap().await
}

/// What a device says of a gateway that shows this certificate.
async fn distrusted(pki: &Arc<Pki>, (chain_pem, key_pem): (String, String)) -> String {
    let tls = GatewayTls { chain_pem, key_pem: Zeroizing::new(key_pem), ..pki.tls() };
    let mut gateway = Gateway::with(pki, tls, ([127, 0, 0, 1], 0).into());
    let device = Device::start(Some(pki.device(gateway.address)));
    let status = device.reach(TunnelState::Backoff).await;
    assert!(gateway.sessions.try_recv().is_err());
    status.reason.unwrap()
}

fn server_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

#[tokio::test]
async fn a_gateway_of_another_ca_is_not_trusted() {
    let (pki, other) = (Pki::new(), Pki::new());
    let reason = distrusted(&pki, sign(&other.server_ca, &server_params(GATEWAY_SERVER_NAME))).await;
    assert!(reason.contains("did not prove itself"), "{reason}");
}

#[tokio::test]
async fn a_gateway_with_another_name_is_not_trusted() {
    let pki = Pki::new();
    let reason = distrusted(&pki, sign(&pki.server_ca, &server_params("localhost"))).await;
    assert!(reason.contains("did not prove itself"), "{reason}");
}

#[tokio::test]
async fn an_expired_gateway_is_not_trusted() {
    let pki = Pki::new();
    let mut params = server_params(GATEWAY_SERVER_NAME);
    params.not_after = OffsetDateTime::now_utc() - DAY;
    let reason = distrusted(&pki, sign(&pki.server_ca, &params)).await;
    assert!(reason.contains("did not prove itself"), "{reason}");
}

#[tokio::test]
async fn a_device_that_plays_gateway_is_not_trusted() {
    let pki = Pki::new();
    // Signed by the CA that devices trust, named like the gateway, but for clients only.
    let mut params = server_params(GATEWAY_SERVER_NAME);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let reason = distrusted(&pki, sign(&pki.server_ca, &params)).await;
    assert!(reason.contains("did not prove itself"), "{reason}");
}

#[tokio::test]
async fn a_refused_device_waits_the_longest_before_it_tries_again() {
    let (pki, other) = (Pki::new(), Pki::new());
    let gateway = Gateway::start(&other);
    let device = Device::with(Some(pki.device(gateway.address)), |config| {
        config.timing.backoff.base = Duration::from_millis(1);
        config.timing.backoff.cap = Duration::from_secs(3600);
    });
    let status = device.reach(TunnelState::Backoff).await;
    // Drawn from an hour; after one failure that heals by itself it would be a millisecond.
    let wait = status.retry_at.unwrap() - tokio::time::Instant::now();
    assert!(wait > Duration::from_millis(10), "{wait:?}");
}
