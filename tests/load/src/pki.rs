//! Certificates of the bench's own, made like the gateway's: both ends of every peer prove themselves with P-256 keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use synesis_mesh::gateway::{Dates, GatewayTls};
use synesis_mesh::identity::{Ca, CaKind, DeviceIdentity, DeviceKey, TrustDomain};
use uuid::Uuid;

use crate::lines::say;

const DOMAIN: &str = "bench.internal";

/// Fills a folder, unless it is filled.
pub(crate) fn make(settings: Value) {
    let folder = PathBuf::from(settings["pki"].as_str().expect("a folder"));
    if !folder.join("device.pem").exists() {
        std::fs::create_dir_all(&folder).expect("the folder of certificates");
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a certificate");
        let domain: TrustDomain = DOMAIN.parse().expect("a name");
        let server_ca = Ca::generate(CaKind::Server, &domain).expect("randomness");
        let device_ca = Ca::generate(CaKind::Device, &domain).expect("randomness");
        let server = server_ca.issue_server(&["localhost".to_owned()]).expect("a name");
        let (key, id) = (DeviceKey::generate().expect("randomness"), Uuid::new_v4());
        let issued = device_ca.sign_device_csr(&key.csr_der().expect("a key"), id).expect("our request");
        write("server-ca.pem", &server_ca.certificate_pem());
        write("device-ca.pem", &device_ca.certificate_pem());
        write("server.pem", &server.chain_pem);
        write("server.key", &server.key_pem);
        write("device.key", &key.to_pem().expect("a key"));
        write("device.id", &id.to_string());
        write("device.pem", &issued.chain.iter().map(pem).collect::<String>());
    }
    say(&json!({ "pki": folder }));
}

/// A filled folder.
pub(crate) struct Pki(PathBuf);

impl Pki {
    pub(crate) fn open(folder: impl AsRef<Path>) -> Self {
        Self(folder.as_ref().to_owned())
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn certificates(&self, name: &str) -> Vec<CertificateDer<'static>> {
        let read: Result<_, _> = CertificateDer::pem_slice_iter(self.read(name).as_bytes()).collect();
        read.expect("certificates")
    }

    fn roots(&self, name: &str) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(name) {
            roots.add(certificate).expect("a CA");
        }
        roots
    }

    fn key(&self, name: &str) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.read(name).as_bytes()).expect("a key")
    }

    /// What the tunnel's far end proves itself with.
    pub(crate) fn gateway(&self) -> GatewayTls {
        GatewayTls {
            chain_pem: self.read("server.pem"),
            key_pem: self.read("server.key").into(),
            device_ca_pem: self.read("device-ca.pem"),
            trust_domain: DOMAIN.parse().expect("a name"),
            also: Vec::new(),
            dates: Dates::default(),
            reset_seed: None,
        }
    }

    /// The one device of this folder. Peers do not look at who it is: all of theirs may be this one.
    pub(crate) fn device(&self, gateway: &str) -> DeviceIdentity {
        DeviceIdentity {
            device_id: self.read("device.id").parse().expect("an id"),
            account: "bench".to_owned(),
            trust_domain: DOMAIN.parse().expect("a name"),
            key: DeviceKey::from_pem(&self.read("device.key")).expect("a key"),
            chain: self.certificates("device.pem"),
            ca: self.certificates("server-ca.pem"),
            receipt_keys: Vec::new(),
            gateway: gateway.to_owned(),
        }
    }

    /// A peer's server: mutual TLS 1.3 without resumption, like the tunnel's.
    pub(crate) fn server(&self, alpn: &[u8]) -> ServerConfig {
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots("device-ca.pem")), provider());
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(clients.build().expect("a verifier"))
            .with_single_cert(self.certificates("server.pem"), self.key("server.key"))
            .expect("a certificate and its key");
        config.alpn_protocols = vec![alpn.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config
    }

    /// A peer's client.
    pub(crate) fn client(&self, alpn: &[u8]) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(self.roots("server-ca.pem"))
            .with_client_auth_cert(self.certificates("device.pem"), self.key("device.key"))
            .expect("a certificate and its key");
        if !alpn.is_empty() {
            config.alpn_protocols = vec![alpn.to_vec()];
        }
        config.resumption = Resumption::disabled();
        config
    }
}

/// The tunnel's own order of ciphers, so that no difference comes from there.
fn provider() -> Arc<CryptoProvider> {
    let cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384];
    Arc::new(CryptoProvider { cipher_suites, ..default_provider() })
}

fn pem(certificate: &CertificateDer<'static>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
