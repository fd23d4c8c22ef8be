//! How both ends use TLS: 1.3 only, ring, no tickets, no sessions, no early data. A resumed session would skip
//! the client certificate check, and with it a revocation.

mod choice;
mod dates;
mod device_verifier;
mod fault;
mod gateway_verifier;

use std::sync::Arc;
use std::time::SystemTime;

use quinn::TransportErrorCode;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use rustls_pki_types::CertificateDer;

use crate::gateway::Dates;
use crate::identity::{DeviceIdentity, DeviceKey, IdentityError, TrustDomain, Validity, WallClock};
use crate::kind::{ALPN_ENROLL, ALPN_MESH};
use choice::Choices;
use device_verifier::DeviceVerifier;
pub use fault::CertificateFault;
use gateway_verifier::GatewayVerifier;

/// Why certificates and keys do not make a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the certificates and keys do not make a TLS configuration")]
    Rustls(#[from] rustls::Error),
    #[error("the CA cannot verify certificates")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    #[error("the cipher suite of QUIC's first packets is missing")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// What a device shows and checks, for each carrier; the same but for their wrapping.
#[derive(Clone)]
pub(crate) struct ClientTls {
    pub(crate) quic: Arc<QuicClientConfig>,
    pub(crate) tcp: Arc<ClientConfig>,
}

impl TryFrom<ClientConfig> for ClientTls {
    type Error = TlsError;

    fn try_from(config: ClientConfig) -> Result<Self, TlsError> {
        Ok(Self { quic: Arc::new(config.clone().try_into()?), tcp: Arc::new(config) })
    }
}

/// What a gateway shows and checks, for each carrier.
#[derive(Clone)]
pub(crate) struct ServerTls {
    pub(crate) quic: Arc<QuicServerConfig>,
    pub(crate) tcp: Arc<ServerConfig>,
}

impl TryFrom<ServerConfig> for ServerTls {
    type Error = TlsError;

    fn try_from(config: ServerConfig) -> Result<Self, TlsError> {
        Ok(Self { quic: Arc::new(config.clone().try_into()?), tcp: Arc::new(config) })
    }
}

/// The TLS alert in an error of QUIC, which carries it as `0x100 + alert` (RFC 9001, section 4.8).
pub(crate) fn alert(code: TransportErrorCode) -> Option<u64> {
    u64::from(code).checked_sub(0x100).filter(|alert| *alert < 0x100)
}

/// AES-128 first: the cheapest handshake and record protection where the processor has AES instructions.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..default_provider()
    })
}

fn roots(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone())?;
    }
    Ok(roots)
}

/// A device that proves itself with its certificate, for its tunnel or, once it has expired, for another one.
pub(crate) fn device(
    identity: &DeviceIdentity,
    alpn: &[u8],
    clock: &WallClock,
) -> Result<ClientConfig, TlsError> {
    let certified = CertifiedKey::new(identity.chain.clone(), identity.key.signing_key()?);
    client(&identity.ca, Some(certified), alpn, identity.validity()?.from, clock)
}

/// A device that has nothing but a token yet.
pub(crate) fn enrolling(ca: &[CertificateDer<'static>], clock: &WallClock) -> Result<ClientConfig, TlsError> {
    client(ca, None, ALPN_ENROLL, SystemTime::UNIX_EPOCH, clock)
}

/// What a device checks a gateway with. `born`: a moment that has passed for certain, whatever the clock says.
pub(crate) fn gateway_verifier(
    ca: &[CertificateDer<'static>],
    born: SystemTime,
    clock: &WallClock,
) -> Result<impl ServerCertVerifier + 'static, TlsError> {
    let mut floor = born;
    for certificate in ca {
        floor = floor.max(Validity::of(certificate)?.from);
    }
    let roots = Arc::new(roots(ca)?);
    let known = roots.subjects();
    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider()).build()?;
    Ok(GatewayVerifier { inner, known, clock: clock.clone(), floor })
}

fn client(
    ca: &[CertificateDer<'static>],
    certified: Option<CertifiedKey>,
    alpn: &[u8],
    born: SystemTime,
    clock: &WallClock,
) -> Result<ClientConfig, TlsError> {
    let verifier = gateway_verifier(ca, born, clock)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match certified {
        Some(certified) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// What a gateway checks devices with.
pub(crate) fn device_verifier(
    device_ca: &[CertificateDer<'static>],
    trust_domain: TrustDomain,
    dates: &Dates,
) -> Result<impl ClientCertVerifier + 'static, TlsError> {
    let chained = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(device_ca)?), provider());
    let chained = chained.allow_unauthenticated().build()?;
    Ok(DeviceVerifier { chained, trust_domain, clock: dates.clock.clone(), grace: dates.grace })
}

/// A gateway, for both protocols; of its certificates, best first, each device is shown the best it can check. Enrolling
/// devices have no certificate, so none is demanded in the handshake; who speaks the mesh protocol without one is
/// turned away right after it.
pub(crate) fn gateway(
    certificates: Vec<(Vec<CertificateDer<'static>>, DeviceKey)>,
    device_ca: &[CertificateDer<'static>],
    trust_domain: TrustDomain,
    dates: &Dates,
) -> Result<ServerConfig, TlsError> {
    let verifier = device_verifier(device_ca, trust_domain, dates)?;
    let mut certified = Vec::with_capacity(certificates.len());
    for (chain, key) in certificates {
        certified.push(CertifiedKey::new(chain, key.signing_key()?));
    }
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(Choices::new(certified)?));
    config.alpn_protocols = vec![ALPN_MESH.to_vec(), ALPN_ENROLL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}
