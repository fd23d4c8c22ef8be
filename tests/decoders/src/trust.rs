//! Certificates and requests for them. What counts carries a signature that nobody can invent, so the fixtures were made
//! once, by the product; their key opens nothing.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;
use rustls_pki_types::CertificateDer;
use synesis_mesh::fuzzing::{self, Checks};
use synesis_mesh::identity::{
    Ca, CaKind, DeviceIdentity, DeviceKey, DeviceName, TrustDomain, Validity, certificates_from_pem,
    fingerprint,
};
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::enroll_reply::Message as Reply;

const DEVICE: &str = include_str!("../fixtures/device.pem");
const DEVICE_KEY: &str = include_str!("../fixtures/device.key");
const GATEWAY: &str = include_str!("../fixtures/gateway.pem");
/// A moment at which all of them count: 2026-12-15.
const NOW: Duration = Duration::from_secs(1_797_292_800);

struct Fixture {
    identity: DeviceIdentity,
    gateway: Vec<CertificateDer<'static>>,
    checks: Checks,
    signer: Ca,
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let (chain, gateway) = (certificates(DEVICE), certificates(GATEWAY));
        let trust_domain: TrustDomain = "example.org".parse().expect("a trust domain");
        let checks = Checks::new(&gateway[1..], &chain[1..], trust_domain.clone(), now()).expect("good CAs");
        let identity = DeviceIdentity {
            device_id: DeviceName::from_certificate(&chain[0]).expect("a device").device_id,
            account: "acme".to_owned(),
            trust_domain: trust_domain.clone(),
            key: DeviceKey::from_pem(DEVICE_KEY).expect("a key"),
            chain,
            ca: gateway[1..].to_vec(),
            receipt_keys: Vec::new(),
            gateway: "gateway.example.org:4433".to_owned(),
        };
        identity.check().expect("the fixtures belong together");
        let signer = Ca::generate(CaKind::Device, &trust_domain).expect("randomness");
        Fixture { identity, gateway, checks, signer }
    })
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    certificates_from_pem(pem.as_bytes()).expect("certificates")
}

fn now() -> SystemTime {
    UNIX_EPOCH + NOW
}

/// A certificate in DER, or a PEM text.
pub(crate) fn certificate(data: &[u8]) {
    let Fixture { identity, gateway, checks, .. } = fixture();
    let leaf = CertificateDer::from(data);
    let name = DeviceName::from_certificate(&leaf);
    if let Ok(name) = &name {
        assert_eq!(name.to_string().parse(), Ok(name.clone()));
    }
    if let Ok(validity) = Validity::of(&leaf) {
        let due = validity.renew_at();
        assert!(due >= validity.from && due <= validity.until.max(validity.from), "{validity:?}: {due:?}");
    }
    if checks.device(&leaf, &identity.chain[1..]) {
        assert_eq!(name.expect("its name was checked").trust_domain, identity.trust_domain);
    }
    checks.gateway(&leaf, &gateway[1..]);
    let [named, old] = [data, &identity.ca[0]].map(Bytes::copy_from_slice);
    let retired = Bytes::copy_from_slice(&fingerprint(&old));
    if let Some(trusting) = identity.trusting(&[named], &[retired]) {
        assert_eq!(trusting.ca.len(), 1);
    }
    if let Ok(all) = certificates_from_pem(data) {
        assert!(!all.is_empty());
    }
}

pub(crate) fn certificate_seeds() -> Vec<Vec<u8>> {
    let Fixture { identity, gateway, .. } = fixture();
    let all = identity.chain.iter().chain(gateway);
    all.map(|certificate| certificate.to_vec()).chain([GATEWAY.into()]).collect()
}

/// A request in DER.
pub(crate) fn signing_request(data: &[u8]) {
    let Fixture { identity, signer, .. } = fixture();
    if let Ok(issued) = signer.sign_device_csr_at(data, identity.device_id, now()) {
        let name = DeviceName::in_domain(&issued.chain[0], &identity.trust_domain).expect("a device's name");
        assert_eq!(name.device_id, identity.device_id, "a request does not choose its name");
    }
}

pub(crate) fn signing_request_seeds() -> Vec<Vec<u8>> {
    vec![fixture().identity.key.csr_der().expect("a request")]
}

/// First byte even: the answer to an enrolment; odd: to a renewal.
pub(crate) fn enrolment(data: &[u8]) {
    let Fixture { identity, .. } = fixture();
    let Some((which, answer)) = data.split_first() else { return };
    let key = || identity.key.clone();
    let made = if which % 2 == 0 {
        let Ok(v1::EnrollReply { message: Some(Reply::Enrolled(enrolled)) }) = Message::decode(answer) else {
            return;
        };
        fuzzing::enrolled(key(), identity.ca.clone(), enrolled)
    } else {
        let Ok(v1::Renewed { certificate_chain, .. }) = Message::decode(answer) else { return };
        fuzzing::renewed(identity, key(), certificate_chain)
    };
    if let Some(made) = made {
        made.check().expect("what counts belongs together");
        assert!((1..=8).contains(&made.ca.len()));
    }
}

pub(crate) fn enrolment_seeds() -> Vec<Vec<u8>> {
    let Fixture { identity, gateway, .. } = fixture();
    let bytes =
        |all: &[CertificateDer<'_>]| all.iter().map(|one| Bytes::copy_from_slice(one)).collect::<Vec<_>>();
    let enrolled = v1::Enrolled {
        device_id: identity.device_id.to_string(),
        account: "acme".to_owned(),
        trust_domain: "example.org".to_owned(),
        certificate_chain: bytes(&identity.chain),
        receipt_keys: vec![v1::ReceiptKey { key_id: "k1".to_owned(), public_key: vec![7; 32].into() }],
        not_after_s: 1,
        server_ca: bytes(gateway),
    };
    let renewed = v1::Renewed { certificate_chain: bytes(&identity.chain), ..v1::Renewed::default() };
    let reply = v1::EnrollReply { message: Some(Reply::Enrolled(enrolled)) };
    vec![[&[0], &reply.encode_to_vec()[..]].concat(), [&[1], &renewed.encode_to_vec()[..]].concat()]
}
