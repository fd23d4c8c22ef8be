//! How both ends use TLS: 1.3 only, ring, no tickets, no sessions, no early data. A resumed session would skip
//! the client certificate check, and with it a revocation.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme, version,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::identity::{DeviceIdentity, DeviceKey, DeviceName, IdentityError, TrustDomain};
use crate::kind::{ALPN_ENROLL, ALPN_MESH};

/// Why certificates and keys do not make a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the certificates and keys do not make a TLS configuration")]
    Rustls(#[from] rustls::Error),
    #[error("the device CA cannot verify certificates")]
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

/// A device that proves itself with its certificate.
pub(crate) fn device(identity: &DeviceIdentity) -> Result<ClientConfig, TlsError> {
    let certified = CertifiedKey::new(identity.chain.clone(), identity.key.signing_key()?);
    client(&identity.ca, Some(certified), ALPN_MESH)
}

/// A device that has nothing but a token yet.
pub(crate) fn enrolling(ca: &[CertificateDer<'static>]) -> Result<ClientConfig, TlsError> {
    client(ca, None, ALPN_ENROLL)
}

fn client(
    ca: &[CertificateDer<'static>],
    certified: Option<CertifiedKey>,
    alpn: &[u8],
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots(ca)?);
    let mut config = match certified {
        Some(certified) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// A gateway, for both protocols. Enrolling devices have no certificate, so none is demanded in the handshake; who
/// speaks the mesh protocol without one is turned away right after it.
pub(crate) fn gateway(
    chain: Vec<CertificateDer<'static>>,
    key: &DeviceKey,
    device_ca: &[CertificateDer<'static>],
    trust_domain: TrustDomain,
) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let chained = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(device_ca)?), provider.clone());
    let verifier = DeviceVerifier { chained: chained.allow_unauthenticated().build()?, trust_domain };
    let certified = CertifiedKey::new(chain, key.signing_key()?);
    certified.keys_match()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN_MESH.to_vec(), ALPN_ENROLL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Chain, dates and usage as rustls checks them, and then the name: a device of our own trust domain.
#[derive(Debug)]
struct DeviceVerifier {
    chained: Arc<dyn ClientCertVerifier>,
    trust_domain: TrustDomain,
}

impl ClientCertVerifier for DeviceVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A device has one certificate; telling it which CAs we know costs bytes in every handshake.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chained.verify_client_cert(end_entity, intermediates, now)?;
        match DeviceName::in_domain(end_entity, &self.trust_domain) {
            Ok(_) => Ok(verified),
            Err(why) => {
                tracing::info!(%why, "a client certificate of our CA was refused");
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chained.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chained.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chained.supported_verify_schemes()
    }
}
