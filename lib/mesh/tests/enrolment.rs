//! Enrolling a device over a real socket, and everything that can go wrong with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::time::SystemTime;

use support::{Device, GOOD_TOKEN, Gateway, Pki};
use synesis_mesh::device::{EnrollError, TunnelState, enroll};
use synesis_mesh::identity::DeviceIdentity;
use synesis_mesh::kind::ErrorCode;

async fn try_enrol(gateway: &Gateway, pki: &Pki, token: &str) -> Result<DeviceIdentity, EnrollError> {
    let ca = pki.server_ca.certificate_pem();
    enroll(&gateway.address.to_string(), ca.as_bytes(), token, "test/1").await
}

#[tokio::test]
async fn a_device_enrols_connects_and_both_ends_measure_the_round_trip() {
    let pki = Pki::new();
    let mut gateway = Gateway::start(&pki);
    let enrolled = try_enrol(&gateway, &pki, GOOD_TOKEN).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    enrolled.save(dir.path()).unwrap();
    let identity = DeviceIdentity::load(dir.path()).unwrap().unwrap();
    assert_eq!((identity.account.as_str(), identity.receipt_keys.len()), ("acme", 1));

    let device_id = identity.device_id;
    let device = Device::start(Some(identity));
    let up = device.reach(TunnelState::Up).await;
    assert_eq!(up.gateway, Some(gateway.address.to_string()));
    assert!(up.connected_since.unwrap() <= SystemTime::now());
    assert_eq!(up.welcome.unwrap().gateway_id, "test");
    let status = device.status(|s| s.rtt.is_some()).await;
    assert!(!status.rtt.unwrap().is_zero());
    assert!(!device.handle.ping().await.unwrap().is_zero());

    let session = gateway.session().await;
    assert_eq!(session.device_id(), device_id);
    let mut reports = session.reports();
    let complete =
        |r: &synesis_mesh::gateway::DeviceReport| r.device_rtt.is_some() && r.gateway_rtt.is_some();
    let report =
        tokio::time::timeout(support::SOON, reports.wait_for(complete)).await.unwrap().unwrap().clone();
    assert_eq!(report.vitals.and_then(|v| v.cpu), Some(0.25));
    assert!(report.last_heartbeat_at.is_some() && report.heartbeats >= 2);
}

#[tokio::test]
async fn a_wrong_token_is_refused_with_its_code_and_next_step() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    match try_enrol(&gateway, &pki, "wrong").await {
        Err(EnrollError::Refused { code, .. }) => assert_eq!(code, Some(ErrorCode::TokenInvalid)),
        other => panic!("{other:?}"),
    }
    match try_enrol(&gateway, &pki, "expired").await {
        Err(EnrollError::Refused { code, next_step, .. }) => {
            assert_eq!((code, next_step.as_str()), (Some(ErrorCode::TokenExpired), "create another token"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_gateway_of_another_ca_is_untrusted_and_never_sees_the_token() {
    let (pki, other) = (Pki::new(), Pki::new());
    let mut gateway = Gateway::start(&pki);
    match try_enrol(&gateway, &other, GOOD_TOKEN).await {
        Err(EnrollError::Untrusted { next_step, .. }) => assert!(!next_step.is_empty()),
        other => panic!("{other:?}"),
    }
    assert!(gateway.refusal().await.contains("handshake failed"));
}

#[tokio::test]
async fn a_ca_file_without_a_certificate_is_unreadable() {
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for pem in [&b""[..], b"hello", b"\xff\xfe", broken.as_bytes(), key.as_bytes()] {
        let result = enroll("127.0.0.1:1", pem, GOOD_TOKEN, "test/1").await;
        assert!(matches!(result, Err(EnrollError::CaUnreadable(_))), "{result:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_unreachable() {
    let pki = Pki::new();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let ca = pki.server_ca.certificate_pem();
    let silent = silent.local_addr().unwrap().to_string();
    for gateway in [silent.as_str(), "no-such-host.invalid:4433", "no-port"] {
        match enroll(gateway, ca.as_bytes(), GOOD_TOKEN, "test/1").await {
            Err(EnrollError::Unreachable { reason, next_step }) => {
                assert!(reason.contains(gateway) && !next_step.is_empty(), "{reason}");
            }
            other => panic!("{gateway}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_certificate_for_another_key_is_not_accepted() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let result = try_enrol(&gateway, &pki, "somebody-else").await;
    assert!(matches!(result, Err(EnrollError::BadReply(_))), "{result:?}");
}
