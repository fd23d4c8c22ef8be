//! Many enrolled devices in one file: a line for what they share, then a line each.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use synesis_mesh::identity::{DeviceIdentity, DeviceKey};

#[derive(Serialize, Deserialize)]
struct Shared {
    account: String,
    trust_domain: String,
    gateway: String,
    ca: Vec<String>,
    issuers: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct One {
    id: String,
    key: String,
    leaf: String,
}

/// Writes them as a whole or not at all.
pub(crate) fn write(path: &Path, devices: &[DeviceIdentity]) {
    let first = devices.first().expect("at least one device");
    let shared = Shared {
        account: first.account.clone(),
        trust_domain: first.trust_domain.to_string(),
        gateway: first.gateway.clone(),
        ca: first.ca.iter().map(text).collect(),
        issuers: first.chain.iter().skip(1).map(text).collect(),
    };
    let unfinished = path.with_extension("part");
    let mut out = BufWriter::new(std::fs::File::create(&unfinished).expect("the file of devices"));
    let mut line = |value: String| writeln!(out, "{value}").expect("the disk has room");
    line(serde_json::to_string(&shared).expect("JSON"));
    for device in devices {
        let one = One {
            id: device.device_id.to_string(),
            key: device.key.to_pem().expect("a key").to_string(),
            leaf: text(&device.chain[0]),
        };
        line(serde_json::to_string(&one).expect("JSON"));
    }
    drop(out);
    std::fs::rename(unfinished, path).expect("the same folder");
}

/// `count` of them, the first `skip` left out.
pub(crate) fn read(path: &Path, skip: usize, count: usize) -> Vec<DeviceIdentity> {
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = BufReader::new(file).lines().map(|line| line.expect("UTF-8"));
    let shared: Shared = serde_json::from_str(&lines.next().expect("the first line")).expect("JSON");
    let devices = lines.skip(skip).take(count).map(|line| {
        let one: One = serde_json::from_str(&line).expect("JSON");
        let chain = std::iter::once(&one.leaf).chain(&shared.issuers).map(|text| certificate(text));
        DeviceIdentity {
            device_id: one.id.parse().expect("an id"),
            account: shared.account.clone(),
            trust_domain: shared.trust_domain.parse().expect("a name"),
            key: DeviceKey::from_pem(&one.key).expect("a key"),
            chain: chain.collect(),
            ca: shared.ca.iter().map(|text| certificate(text)).collect(),
            receipt_keys: Vec::new(),
            gateway: shared.gateway.clone(),
        }
    });
    devices.collect()
}

fn text(certificate: &CertificateDer<'static>) -> String {
    STANDARD.encode(certificate)
}

fn certificate(text: &str) -> CertificateDer<'static> {
    STANDARD.decode(text).expect("base64").into()
}
