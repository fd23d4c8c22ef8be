//! The listeners: a UDP port and, for devices that UDP does not let through, a TCP port. Both serve both protocols,
//! told apart by ALPN after the handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{ServerConfig, TokioRuntime};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::tcp::TcpDoor;
use super::{Dates, DeviceConnection, EnrollConnection, PeerCertificate, STEP_TIMEOUT};
use crate::carrier::{Connection, ConnectionLost};
use crate::identity::{DeviceKey, IdentityError, TrustDomain, WallClock, certificates_from_pem};
use crate::kind::{ALPN_ENROLL, ALPN_MESH, ErrorCode};
use crate::tls::{self, CertificateFault, ServerTls, alert};
use crate::transport;

/// What a gateway proves itself with, and whom it lets in.
pub struct GatewayTls {
    /// The gateway's certificate, then its issuers (PEM).
    pub chain_pem: String,
    /// The private key of that certificate (PKCS#8 PEM).
    pub key_pem: Zeroizing<String>,
    /// Further certificates with their keys (PEM), second best first: for devices that do not trust the CA of the first.
    pub also: Vec<(String, Zeroizing<String>)>,
    /// The CAs that sign device certificates (PEM, one or more).
    pub device_ca_pem: String,
    /// Certificates of other realms are refused, even from the same CA.
    pub trust_domain: TrustDomain,
    /// How dates are judged.
    pub dates: Dates,
    /// 32 secret bytes that survive restarts: with them, devices notice a restarted gateway within seconds. Without,
    /// they are random.
    pub reset_seed: Option<Zeroizing<[u8; 32]>>,
}

/// Why a listener could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A certificate or a key is unusable.
    #[error("the gateway's certificates or key are not usable")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address is taken, not ours, or not permitted.
    #[error("cannot listen on {protocol} {address}")]
    Socket {
        /// UDP or TCP.
        protocol: &'static str,
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random(#[from] getrandom::Error),
}

impl From<tls::TlsError> for BindError {
    fn from(error: tls::TlsError) -> Self {
        Self::Tls(error.into())
    }
}

impl From<IdentityError> for BindError {
    fn from(error: IdentityError) -> Self {
        Self::Tls(error.into())
    }
}

/// Why a handshake led to no connection. The peer has been told.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// Not finished in time.
    #[error("the handshake was not finished in time")]
    TimedOut,
    /// The handshake failed.
    #[error("the handshake failed")]
    Failed(#[source] ConnectionLost),
    /// The device's certificate was refused in the handshake.
    #[error("the device's certificate was refused: {0}")]
    Certificate(CertificateFault),
    /// The device's certificate is past its end, but not past the grace: the device may renew it.
    #[error("the device's certificate has expired")]
    Expired(Box<PeerCertificate>),
    /// The mesh protocol without a client certificate.
    #[error("the device showed no certificate")]
    NoCertificate,
    /// A certificate that cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Neither of our protocols.
    #[error("no protocol in common")]
    Protocol,
}

/// A bound listener.
#[derive(Debug, Clone)]
pub struct GatewayEndpoint {
    endpoint: quinn::Endpoint,
    tcp: Option<Arc<TcpDoor>>,
    trust_domain: TrustDomain,
    clock: WallClock,
}

impl GatewayEndpoint {
    /// Listens on a UDP address; port 0 picks one. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the certificates are unusable or the address is not available.
    pub fn bind(tls: &GatewayTls, address: SocketAddr) -> Result<Self, BindError> {
        Self::bind_numbered(tls, address, None)
    }

    /// Like [`Self::bind`], with the number that the gateway's connection ids carry; a balancer routes by it. Without one,
    /// the seed gives it.
    ///
    /// # Errors
    /// Like [`Self::bind`].
    pub fn bind_numbered(
        tls: &GatewayTls,
        address: SocketAddr,
        number: Option<u16>,
    ) -> Result<Self, BindError> {
        let unavailable = |source| BindError::Socket { protocol: "UDP", address, source };
        let server = server_config(crypto(tls)?.quic);
        let config = transport::gateway_endpoint(tls.reset_seed.as_deref(), number)?;
        let socket = transport::udp_socket(address).map_err(unavailable)?;
        let endpoint = quinn::Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime));
        Ok(Self::of(endpoint.map_err(unavailable)?, tls))
    }

    /// Listens on a TCP address, too; port 0 picks one. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the certificates are unusable or the address is not available.
    pub fn and_tcp(self, tls: &GatewayTls, address: SocketAddr) -> Result<Self, BindError> {
        let door = TcpDoor::bind(address, crypto(tls)?.tcp).map_err(|source| BindError::Socket {
            protocol: "TCP",
            address,
            source,
        })?;
        Ok(Self { tcp: Some(Arc::new(door)), ..self })
    }

    /// Serves on an endpoint somebody else made: tests run it on an in-memory network.
    #[cfg(test)]
    pub(crate) fn over(endpoint: quinn::Endpoint, tls: &GatewayTls) -> Result<Self, BindError> {
        endpoint.set_server_config(Some(server_config(crypto(tls)?.quic)));
        Ok(Self::of(endpoint, tls))
    }

    fn of(endpoint: quinn::Endpoint, tls: &GatewayTls) -> Self {
        let (trust_domain, clock) = (tls.trust_domain.clone(), tls.dates.clock.clone());
        Self { endpoint, tcp: None, trust_domain, clock }
    }

    /// Proves itself with another certificate, or lets in devices of other CAs, from the next handshake on. The sockets,
    /// their connections and the trust domain stay.
    ///
    /// # Errors
    /// When the certificates are unusable; then nothing has changed.
    pub fn renew_tls(&self, tls: &GatewayTls) -> Result<(), BindError> {
        let ServerTls { quic, tcp } = crypto(tls)?;
        self.endpoint.set_server_config(Some(server_config(quic)));
        if let Some(door) = &self.tcp {
            door.renew_tls(tcp);
        }
        Ok(())
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// The TCP address it listens on, if it does.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.local_addr().ok()
    }

    /// The next peer that wants to connect, or `None` after [`Self::close`]. Its handshake is another step, so that
    /// a slow one delays nobody.
    pub async fn accept(&self) -> Option<Incoming> {
        let tcp = async {
            let Some(door) = &self.tcp else { return std::future::pending().await };
            let (stream, remote) = door.accept().await?;
            Some(Knock::Tcp { stream, remote, door: door.clone() })
        };
        let inner = tokio::select! {
            incoming = self.endpoint.accept() => incoming.map(Knock::Quic),
            knock = tcp => knock,
        };
        let (trust_domain, clock) = (self.trust_domain.clone(), self.clock.clone());
        Some(Incoming { inner: inner?, trust_domain, clock })
    }

    /// Connections that are open, handshakes under way among them.
    pub fn connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Ends all connections and takes no more.
    pub fn close(&self, code: ErrorCode, reason: &str) {
        self.endpoint.close(code.varint(), reason.as_bytes());
        if let Some(door) = &self.tcp {
            door.close(code.number(), reason);
        }
    }

    /// Resolves when all connections have ended and their peers had time to hear of it.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
        if let Some(door) = &self.tcp {
            door.wait_idle().await;
        }
    }
}

fn crypto(tls: &GatewayTls) -> Result<ServerTls, BindError> {
    let pair = |chain: &str, key: &str| -> Result<_, BindError> {
        Ok((certificates_from_pem(chain.as_bytes())?, DeviceKey::from_pem(key)?))
    };
    let mut certificates = vec![pair(&tls.chain_pem, &tls.key_pem)?];
    for (chain, key) in &tls.also {
        certificates.push(pair(chain, key)?);
    }
    let device_ca = certificates_from_pem(tls.device_ca_pem.as_bytes())?;
    Ok(tls::gateway(certificates, &device_ca, tls.trust_domain.clone(), &tls.dates)?.try_into()?)
}

fn server_config(crypto: Arc<QuicServerConfig>) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(crypto);
    config
        .transport_config(transport::gateway())
        .max_incoming(transport::MAX_INCOMING)
        .incoming_buffer_size(transport::INCOMING_BUFFER)
        .incoming_buffer_size_total(transport::INCOMING_BUFFER_TOTAL);
    config
}

/// A peer before its handshake.
#[derive(Debug)]
pub struct Incoming {
    inner: Knock,
    trust_domain: TrustDomain,
    clock: WallClock,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "each lives for one handshake, and is not kept")]
enum Knock {
    Quic(quinn::Incoming),
    Tcp { stream: TcpStream, remote: SocketAddr, door: Arc<TcpDoor> },
}

/// Who came in, by either door.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) connection: Connection,
    /// The ALPN agreed on.
    pub(super) protocol: Option<Vec<u8>>,
    /// The peer's own certificate.
    pub(super) leaf: Option<CertificateDer<'static>>,
}

/// A peer after its handshake.
#[derive(Debug)]
pub enum Accepted {
    /// Somebody with a token, or with a certificate to renew.
    Enroll(EnrollConnection),
    /// A device with a certificate of ours.
    Device(DeviceConnection),
}

impl Incoming {
    /// Where the peer's packets come from; over UDP not proven before the handshake.
    pub fn remote(&self) -> SocketAddr {
        match &self.inner {
            Knock::Quic(incoming) => incoming.remote_address(),
            Knock::Tcp { remote, .. } => *remote,
        }
    }

    /// Whether the peer has proven that it receives at its address.
    pub fn is_proven(&self) -> bool {
        match &self.inner {
            Knock::Quic(incoming) => incoming.remote_address_validated(),
            // Who finishes a TCP handshake receives at its address.
            Knock::Tcp { .. } => true,
        }
    }

    /// Has the peer prove that it receives at its address, for which nothing needs to be remembered here; it then comes
    /// in again. Returns a peer that has proven it already.
    pub fn retry(self) -> Option<Self> {
        let Self { inner, trust_domain, clock } = self;
        let proven = match inner {
            Knock::Quic(incoming) if !incoming.remote_address_validated() => {
                incoming.retry().err().map(|error| Knock::Quic(error.into_incoming()))
            }
            // Who finishes a TCP handshake receives at its address.
            proven => Some(proven),
        };
        proven.map(|inner| Self { inner, trust_domain, clock })
    }

    /// Turns the peer away without a handshake.
    pub fn refuse(self) {
        // A TCP peer sees its connection closed.
        if let Knock::Quic(incoming) = self.inner {
            incoming.refuse();
        }
    }

    /// Runs the handshake, for ten seconds at most, and sorts the peer by protocol.
    ///
    /// # Errors
    /// When it fails or takes too long. A device without a certificate is turned away with
    /// [`ErrorCode::UnknownDevice`], one with an expired certificate with [`ErrorCode::CertificateExpired`], unless it
    /// came to renew it.
    pub async fn handshake(self) -> Result<Accepted, HandshakeError> {
        let Peer { connection, protocol, leaf } = self.inner.handshake().await?;
        let refuse = |code: ErrorCode, error: HandshakeError| {
            connection.close(code, &error.to_string());
            Err(error)
        };
        let certificate = leaf.map(|leaf| PeerCertificate::read(&leaf, &self.trust_domain)).transpose();
        let certificate = match certificate {
            Ok(certificate) => certificate,
            Err(error) => return refuse(ErrorCode::UnknownDevice, error.into()),
        };
        match (protocol.as_deref(), certificate) {
            (Some(ALPN_ENROLL), certificate) => {
                Ok(Accepted::Enroll(EnrollConnection::new(connection, certificate)))
            }
            (Some(ALPN_MESH), None) => refuse(ErrorCode::UnknownDevice, HandshakeError::NoCertificate),
            (Some(ALPN_MESH), Some(certificate)) if certificate.until < self.clock.now() => {
                refuse(ErrorCode::CertificateExpired, HandshakeError::Expired(Box::new(certificate)))
            }
            (Some(ALPN_MESH), Some(certificate)) => {
                Ok(Accepted::Device(DeviceConnection::new(connection, certificate)))
            }
            _ => {
                connection.leave("no protocol in common");
                Err(HandshakeError::Protocol)
            }
        }
    }
}

impl Knock {
    async fn handshake(self) -> Result<Peer, HandshakeError> {
        match self {
            Self::Quic(incoming) => {
                let connecting = incoming.accept().map_err(failed)?;
                let connected =
                    timeout(STEP_TIMEOUT, connecting).await.map_err(|_| HandshakeError::TimedOut)?;
                Ok(Peer::over_quic(connected.map_err(failed)?))
            }
            Self::Tcp { stream, remote, door } => {
                let shaken = timeout(STEP_TIMEOUT, door.handshake(stream, remote)).await;
                match shaken.map_err(|_| HandshakeError::TimedOut)? {
                    Ok(peer) => Ok(peer),
                    Err(refused) => {
                        let fault = refused.fault;
                        let lost = refused.farewell().await;
                        Err(fault.map_or(HandshakeError::Failed(lost), HandshakeError::Certificate))
                    }
                }
            }
        }
    }
}

impl Peer {
    fn over_quic(connection: quinn::Connection) -> Self {
        let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        let chain =
            connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        Self {
            protocol: data.and_then(|data| data.protocol),
            leaf: chain.and_then(|chain| chain.into_iter().next()),
            connection: connection.into(),
        }
    }
}

fn failed(error: quinn::ConnectionError) -> HandshakeError {
    let refused = match &error {
        quinn::ConnectionError::TransportError(error) => {
            alert(error.code).and_then(CertificateFault::from_alert)
        }
        _ => None,
    };
    refused.map_or_else(|| HandshakeError::Failed(error.into()), HandshakeError::Certificate)
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;
    use uuid::Uuid;

    use super::*;
    use crate::device::{Tunnel, TunnelConfig};
    use crate::identity::{Ca, CaKind, DeviceIdentity};

    /// An endpoint, and a device of its own that dials it for as long as the tasks are kept.
    fn dialled() -> (GatewayEndpoint, JoinSet<()>) {
        let trust_domain: TrustDomain = "test.example".parse().unwrap();
        let server_ca = Ca::generate(CaKind::Server, &trust_domain).unwrap();
        let device_ca = Ca::generate(CaKind::Device, &trust_domain).unwrap();
        let server = server_ca.issue_server(&[]).unwrap();
        let tls = GatewayTls {
            chain_pem: server.chain_pem,
            key_pem: server.key_pem,
            also: Vec::new(),
            device_ca_pem: device_ca.certificate_pem(),
            trust_domain: trust_domain.clone(),
            reset_seed: None,
            dates: Dates::default(),
        };
        let endpoint = GatewayEndpoint::bind(&tls, ([127, 0, 0, 1], 0).into()).unwrap();
        let (key, device_id) = (DeviceKey::generate().unwrap(), Uuid::from_u128(1));
        let issued = device_ca.sign_device_csr(&key.csr_der().unwrap(), device_id).unwrap();
        let identity = DeviceIdentity {
            device_id,
            account: "acme".to_owned(),
            trust_domain,
            key,
            chain: issued.chain,
            ca: certificates_from_pem(server_ca.certificate_pem().as_bytes()).unwrap(),
            receipt_keys: Vec::new(),
            gateway: endpoint.local_addr().unwrap().to_string(),
        };
        let config = TunnelConfig::new("test/1", tokio::sync::watch::channel(None).1);
        let (_, mut driver) = Tunnel::new(config, Some(Arc::new(identity)));
        let mut dialling = JoinSet::new();
        dialling.spawn(async move { driver.run(CancellationToken::new()).await });
        (endpoint, dialling)
    }

    #[tokio::test]
    async fn a_peer_that_is_asked_to_proves_its_address_and_comes_in() {
        let (endpoint, _dialling) = dialled();
        let first = timeout(STEP_TIMEOUT, endpoint.accept()).await.unwrap().unwrap();
        assert!(first.retry().is_none(), "nothing is proven by a first packet");
        let again = timeout(STEP_TIMEOUT, endpoint.accept()).await.unwrap().unwrap();
        let again = again.retry().expect("its address is proven");
        assert!(matches!(again.handshake().await, Ok(Accepted::Device(_))));
    }
}
