//! A resumed session, or data sent before the handshake, would skip the check of the client's certificate, and with it a
//! revocation. A client that insists gets neither.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::ring::default_provider;
use rustls::{NamedGroup, RootCertStore, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, ServerName};
use support::{Gateway, Pki, SOON, certificates};
use synesis_mesh::identity::{DeviceIdentity, GATEWAY_SERVER_NAME};
use synesis_mesh::kind::{ALPN_MESH, ErrorCode};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Keeps tickets, and counts them.
#[derive(Debug)]
struct Tickets {
    kept: ClientSessionMemoryCache,
    count: AtomicUsize,
    came: Notify,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept.set_tls12_session(server, value);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.kept.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.kept.insert_tls13_ticket(server, value);
        self.count.fetch_add(1, Ordering::SeqCst);
        self.came.notify_one();
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept.take_tls13_ticket(server)
    }
}

/// A client with this device's certificate that wants to resume and to send early, whatever ours do.
fn insistent(pki: &Pki, identity: &DeviceIdentity, tickets: Arc<Tickets>) -> quinn::ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(pki.server_ca.certificate().clone()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.to_pem().unwrap().as_bytes()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain.clone(), key)
        .unwrap();
    tls.alpn_protocols = vec![ALPN_MESH.to_vec()];
    tls.resumption = Resumption::store(tickets);
    tls.enable_early_data = true;
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

/// A server with the gateway's own certificate that gives tickets for early data away.
fn generous(pki: &Pki) -> quinn::Endpoint {
    let ours = pki.tls();
    let key = PrivateKeyDer::from_pem_slice(ours.key_pem.as_bytes()).unwrap();
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates(&ours.chain_pem), key)
        .unwrap();
    tls.alpn_protocols = vec![ALPN_MESH.to_vec()];
    tls.max_early_data_size = u32::MAX;
    let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    quinn::Endpoint::server(config, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

fn tickets() -> Arc<Tickets> {
    Arc::new(Tickets {
        kept: ClientSessionMemoryCache::new(32),
        count: AtomicUsize::new(0),
        came: Notify::new(),
    })
}

#[tokio::test]
async fn a_gateway_gives_no_ticket_to_resume_with() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let identity = pki.device(gateway.address);
    let tickets = tickets();
    let config = insistent(&pki, &identity, tickets.clone());
    let client = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let connect = |config| client.connect_with(config, gateway.address, GATEWAY_SERVER_NAME).unwrap();
    let connection = connect(config.clone()).await.unwrap();
    // Tickets follow the handshake. Once the gateway has answered what came after it, they would be here.
    let (mut nonsense, _) = connection.open_bi().await.unwrap();
    nonsense.write_all(&[0xff; 4]).await.unwrap();
    let closed = timeout(SOON, connection.closed()).await.unwrap();
    assert!(matches!(closed, quinn::ConnectionError::ApplicationClosed(_)), "{closed}");
    assert_eq!(tickets.count.load(Ordering::SeqCst), 0);
    assert!(connect(config).into_0rtt().is_err(), "there is nothing to send early with");
}

#[tokio::test]
async fn a_revoked_device_with_a_ticket_and_early_data_does_not_get_in() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki);
    let identity = pki.device(gateway.address);
    let tickets = tickets();
    let config = insistent(&pki, &identity, tickets.clone());
    let client = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();

    // A ticket for the gateway's name, from somebody who has its certificate and gives them away.
    let generous = generous(&pki);
    let address = generous.local_addr().unwrap();
    let connecting = client.connect_with(config.clone(), address, GATEWAY_SERVER_NAME).unwrap();
    let (theirs, ours) = tokio::join!(async { generous.accept().await.unwrap().await.unwrap() }, connecting);
    timeout(SOON, tickets.came.notified()).await.expect("a ticket");
    ours.unwrap().close(0u32.into(), b"");
    drop(theirs);

    gateway.revoked.lock().unwrap().insert(identity.device_id);
    let connecting = client.connect_with(config, gateway.address, GATEWAY_SERVER_NAME).unwrap();
    let (connection, accepted) = connecting.into_0rtt().expect("the ticket is offered, with early data");
    let (mut early, _) = connection.open_bi().await.unwrap();
    early.write_all(b"replayed").await.unwrap();
    assert!(!accepted.await, "the early data is not looked at");
    match timeout(SOON, connection.closed()).await.unwrap() {
        quinn::ConnectionError::ApplicationClosed(close) => {
            let code = ErrorCode::from_number(close.error_code.into_inner());
            assert_eq!(code, Some(ErrorCode::Revoked), "the certificate was shown and judged again");
        }
        other => panic!("{other}"),
    }
}
