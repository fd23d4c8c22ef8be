//! Tests of keys, certificates, names and the stored identity.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustls_pki_types::CertificateDer;
use uuid::Uuid;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;

pub(super) fn domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

pub(super) fn identity() -> DeviceIdentity {
    let device_ca = Ca::generate(CaKind::Device, &domain()).unwrap();
    let server_ca = Ca::generate(CaKind::Server, &domain()).unwrap();
    let key = DeviceKey::generate().unwrap();
    let device_id = Uuid::new_v4();
    let issued = device_ca.sign_device_csr(&key.csr_der().unwrap(), device_id).unwrap();
    DeviceIdentity {
        device_id,
        account: "acme".into(),
        trust_domain: domain(),
        key,
        chain: issued.chain,
        ca: certificates_from_pem(server_ca.certificate_pem().as_bytes()).unwrap(),
        receipt_keys: vec![ReceiptKey { key_id: "k1".into(), public_key: [7; 32] }],
        gateway: "gw.example.org:4433".into(),
    }
}

#[test]
fn an_issued_certificate_says_what_the_architecture_asks() {
    let ca = Ca::generate(CaKind::Device, &domain()).unwrap();
    let id = Uuid::new_v4();
    let issued = ca.sign_device_csr(&DeviceKey::generate().unwrap().csr_der().unwrap(), id).unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert_eq!(leaf.subject().to_string(), format!("CN=device-{id}"));
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(!leaf.is_ca());
    let days = (leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp()) / 86_400;
    assert_eq!(days, 365);
    let name = DeviceName::from_certificate(&issued.chain[0]).unwrap();
    assert_eq!(name.to_string(), format!("spiffe://example.org/device/{id}"));
}

#[test]
fn a_request_cannot_choose_its_names() {
    let ca = Ca::generate(CaKind::Device, &domain()).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["admin.example.org".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let issued = ca.sign_device_csr(csr.der(), Uuid::new_v4()).unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert!(!leaf.is_ca());
    assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
}

#[test]
fn a_bad_request_is_refused() {
    let ca = Ca::generate(CaKind::Device, &domain()).unwrap();
    let mut forged = DeviceKey::generate().unwrap().csr_der().unwrap();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let edwards = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let edwards = rcgen::CertificateParams::default().serialize_request(&edwards).unwrap();
    for bad in [&b""[..], b"garbage", &forged, edwards.der(), &vec![0x30; 100_000]] {
        let error = ca.sign_device_csr(bad, Uuid::new_v4()).unwrap_err();
        assert!(matches!(error, IdentityError::Csr(_)), "{error}");
    }
}

#[test]
fn a_ca_survives_its_files_and_refuses_a_foreign_key() {
    let ca = Ca::generate(CaKind::Device, &domain()).unwrap();
    let again = Ca::from_pem(&ca.certificate_pem(), &ca.key_pem().unwrap()).unwrap();
    assert_eq!(again.trust_domain(), &domain());
    let other = Ca::generate(CaKind::Device, &domain()).unwrap();
    assert!(Ca::from_pem(&ca.certificate_pem(), &other.key_pem().unwrap()).is_err());
    assert!(Ca::from_pem("nothing", &ca.key_pem().unwrap()).is_err());
    assert!(Ca::from_pem(&ca.certificate_pem(), "nothing").is_err());
}

#[test]
fn an_identity_survives_the_disk_and_its_files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("identity");
    assert!(DeviceIdentity::load(&dir).unwrap().is_none());
    let saved = identity();
    saved.save(&dir).unwrap();
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    let loaded = DeviceIdentity::load(&dir).unwrap().unwrap();
    assert_eq!(loaded.device_id, saved.device_id);
    assert_eq!(loaded.account, saved.account);
    assert_eq!(loaded.chain, saved.chain);
    assert_eq!(loaded.ca, saved.ca);
    assert_eq!(loaded.receipt_keys, saved.receipt_keys);
    assert_eq!(loaded.gateway, saved.gateway);
    assert!(loaded.not_after().unwrap() > std::time::SystemTime::now());
    DeviceIdentity::remove(&dir).unwrap();
    assert!(DeviceIdentity::load(&dir).unwrap().is_none());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    DeviceIdentity::remove(&dir).unwrap();
}

#[test]
fn a_second_identity_replaces_the_first_and_its_key() {
    let dir = tempfile::tempdir().unwrap();
    identity().save(dir.path()).unwrap();
    let second = identity();
    second.save(dir.path()).unwrap();
    assert_eq!(DeviceIdentity::load(dir.path()).unwrap().unwrap().device_id, second.device_id);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "identity.json and one key");
}

/// A file and what is in it.
type Written = (PathBuf, Vec<u8>);

#[test]
fn a_power_cut_while_a_renewed_identity_is_stored_leaves_the_former_or_the_new_one() {
    let files = |dir: &std::path::Path| {
        let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        all.map(|path| (path.clone(), fs::read(path).unwrap())).collect::<Vec<_>>()
    };
    let (former, renewed) = (identity(), identity());
    let dir = tempfile::tempdir().unwrap();
    former.save(dir.path()).unwrap();
    let before = files(dir.path());
    renewed.save(dir.path()).unwrap();
    let after = files(dir.path());
    let is_key = |path: &std::path::Path| path.extension().is_some_and(|extension| extension == "key");
    let new_key = after.iter().find(|(path, _)| is_key(path)).unwrap().clone();
    let new_text = after.iter().find(|(path, _)| !is_key(path)).unwrap().clone();
    // Everything that is on the disk after each step: nothing, half a file, the key, half the public part, all of it.
    let half = |(path, bytes): &Written| {
        let name = format!(".{}.new", path.file_name().unwrap().to_str().unwrap());
        (path.with_file_name(name), bytes[..bytes.len() / 2].to_vec())
    };
    let steps: [(&[Written], Uuid); 5] = [
        (&[], former.device_id),
        (&[half(&new_key)], former.device_id),
        (std::slice::from_ref(&new_key), former.device_id),
        (&[new_key.clone(), half(&new_text)], former.device_id),
        (&[new_key.clone(), new_text.clone()], renewed.device_id),
    ];
    for (written, expected) in steps {
        fs::remove_dir_all(dir.path()).unwrap();
        fs::create_dir(dir.path()).unwrap();
        for (path, bytes) in before.iter().chain(written) {
            fs::write(path, bytes).unwrap();
        }
        assert_eq!(DeviceIdentity::load(dir.path()).unwrap().unwrap().device_id, expected);
        // And the next attempt is not in the way of what is left.
        renewed.save(dir.path()).unwrap();
        assert_eq!(files(dir.path()).iter().filter(|(path, _)| is_key(path)).count(), 1);
    }
}

#[test]
fn a_damaged_identity_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let saved = identity();
    saved.save(dir.path()).unwrap();
    let path = dir.path().join("identity.json");
    let good = fs::read_to_string(&path).unwrap();
    let other = Uuid::new_v4().to_string();
    let bad = [
        "{}".to_owned(),
        good[..good.len() / 2].to_owned(),
        good.replace("\"format\": 1", "\"format\": 2"),
        good.replace(&saved.device_id.to_string(), &other),
        good.replace("BEGIN CERTIFICATE", "BEGIN NOTHING"),
        good.replace("\"device-", "\"../device-"),
    ];
    for text in bad {
        fs::write(&path, text).unwrap();
        let error = DeviceIdentity::load(dir.path()).unwrap_err();
        assert!(matches!(&error, IdentityError::Corrupt { path: named, .. } if *named == path), "{error:?}");
    }
}

#[test]
fn a_missing_key_file_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    identity().save(dir.path()).unwrap();
    let key = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path());
    let key = key.into_iter().find(|p| p.extension().is_some_and(|e| e == "key")).unwrap();
    fs::remove_file(&key).unwrap();
    let error = DeviceIdentity::load(dir.path()).unwrap_err();
    assert!(matches!(error, IdentityError::File { path, .. } if path == key));
}

#[test]
fn secrets_do_not_print() {
    let identity = identity();
    let printed = format!("{identity:?} {:?}", Ca::generate(CaKind::Server, &domain()).unwrap());
    assert!(printed.contains("DeviceKey(..)") && !printed.contains("PRIVATE"));
}

#[test]
fn only_canonical_device_names_parse() {
    let id = "9f3c7c1e-6c0f-4a6e-9e0a-0d4f0c1b2a3d";
    assert!(format!("spiffe://example.org/device/{id}").parse::<DeviceName>().is_ok());
    let bad = [
        format!("spiffe://example.org/device/{}", id.to_uppercase()),
        format!("spiffe://example.org/device/{}", id.replace('-', "")),
        format!("spiffe://example.org/device/{id}/x"),
        format!("spiffe://example.org/gateway/{id}"),
        format!("spiffe:///device/{id}"),
        format!("spiffe://Example.org/device/{id}"),
        format!("https://example.org/device/{id}"),
        String::new(),
    ];
    for text in bad {
        assert!(text.parse::<DeviceName>().is_err(), "{text}");
    }
}

#[test]
fn a_name_of_another_realm_or_use_is_refused() {
    let leaf = &identity().chain[0];
    let other = "other.org".parse().unwrap();
    assert!(matches!(DeviceName::in_domain(leaf, &other), Err(NameError::OtherDomain(_))));
    let server = Ca::generate(CaKind::Server, &domain()).unwrap().issue_server(&[]).unwrap();
    let server = certificates_from_pem(server.chain_pem.as_bytes()).unwrap().swap_remove(0);
    assert_eq!(DeviceName::from_certificate(&server), Err(NameError::NotForClients));
    assert_eq!(DeviceName::from_certificate(&CertificateDer::from(vec![1, 2])), Err(NameError::NoName));
}
