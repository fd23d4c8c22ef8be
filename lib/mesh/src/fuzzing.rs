//! The private decoders of a peer's bytes, for who feeds them garbage (`tests/decoders`). No part of the interface.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use quinn_proto::{ConnectionId, ConnectionIdGenerator};
use ring::hmac;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use synesis_proto::mesh::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::carrier::{Muxed, Record, Side};
use crate::connection_id::NumberedIds;
use crate::device::fuzzing as device;
use crate::gateway::Dates;
use crate::identity::{DeviceIdentity, DeviceKey, GATEWAY_SERVER_NAME, TrustDomain, WallClock};
use crate::kind::{MAX_ENROLL_FRAME, MAX_HEADER_FRAME};
use crate::stream::StreamHeader;
use crate::tls::{self, TlsError};

/// Bytes in the header frame of a work stream, at most.
pub const HEADER_LIMIT: usize = MAX_HEADER_FRAME;
/// Bytes in a frame of enrolment, at most.
pub const ENROLL_LIMIT: usize = MAX_ENROLL_FRAME;

/// What a gateway makes of a header.
pub fn header(header: v1::StreamHeader) -> Option<StreamHeader> {
    StreamHeader::from_wire(header).ok()
}

/// What is at the front of a stream of the TCP carrier.
#[derive(Debug, PartialEq, Eq)]
pub enum Front {
    /// Not a whole record yet.
    Waits,
    /// No record.
    Bad,
    /// A record, taken off: as this end writes it, and so many bytes of the stream follow.
    Record(BytesMut, usize),
}

/// Takes a record off the front of `input`.
pub fn record(input: &mut BytesMut) -> Front {
    match Record::decode(input) {
        Err(_) => Front::Bad,
        Ok(None) => Front::Waits,
        Ok(Some(record)) => {
            let mut again = BytesMut::new();
            record.encode(&mut again);
            Front::Record(again, if let Record::Data(len) = record { len } else { 0 })
        }
    }
}

/// What a gateway hears, stream by stream, on a TCP connection that brings these bytes after TLS and then ends; and why it
/// was lost.
pub async fn carried(bytes: &[u8]) -> (Vec<Vec<u8>>, String) {
    let (near, mut far) = duplex(bytes.len() + (1 << 20));
    let gateway = Muxed::start(near, Side::Gateway, SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    // There is room for all of it; when the gateway has closed already, it does not want the rest.
    let _ = far.write_all(bytes).await;
    let _ = far.shutdown().await;
    let mut heard = Vec::new();
    while let Ok((_send, mut recv)) = gateway.accept().await {
        let mut stream = Vec::new();
        let _ = recv.read_to_end(&mut stream).await;
        heard.push(stream);
    }
    (heard, gateway.closed().await.to_string())
}

/// The status in the head of a proxy's answer, and how many bytes were taken for it.
pub fn proxy_answer(bytes: &[u8]) -> (Option<u16>, usize) {
    let mut rest = bytes;
    let status = device::proxy_answer(&mut rest).now_or_never().and_then(Result::ok);
    (status, bytes.len() - rest.len())
}

/// Whether the gateway of this number and key gave the connection id out.
pub fn is_own_connection_id(number: u16, key: &[u8], id: &[u8]) -> bool {
    let ids = NumberedIds::new(number, hmac::Key::new(hmac::HMAC_SHA256, key));
    // Longer ones than QUIC has do not come this far.
    id.len() <= 20 && ids.validate(&ConnectionId::new(id)).is_ok()
}

/// What a device that sent a request for `key` makes of the answer.
pub fn enrolled(
    key: DeviceKey,
    ca: Vec<CertificateDer<'static>>,
    enrolled: v1::Enrolled,
) -> Option<DeviceIdentity> {
    device::identity("gateway.example.org:4433", key, ca, enrolled).ok()
}

/// What a device makes of the certificate that it gets for a new key.
pub fn renewed(before: &DeviceIdentity, key: DeviceKey, chain: Vec<Bytes>) -> Option<DeviceIdentity> {
    device::with_certificate(before, key, chain).ok()
}

/// How both ends check each other's certificates, at a time that stands still.
pub struct Checks {
    devices: Arc<dyn ClientCertVerifier>,
    gateways: Arc<dyn ServerCertVerifier>,
}

impl Checks {
    /// With the CAs of a gateway and of its devices.
    pub fn new(
        server_ca: &[CertificateDer<'static>],
        device_ca: &[CertificateDer<'static>],
        trust_domain: TrustDomain,
        now: SystemTime,
    ) -> Option<Self> {
        let make = || -> Result<Self, TlsError> {
            let clock = WallClock::of(move || now);
            let gateways = tls::gateway_verifier(server_ca, SystemTime::UNIX_EPOCH, &clock)?;
            let devices =
                tls::device_verifier(device_ca, trust_domain, &Dates { clock, ..Dates::default() })?;
            Ok(Self { devices: Arc::new(devices), gateways: Arc::new(gateways) })
        };
        make().ok()
    }

    /// Whether a gateway lets the device in.
    pub fn device(&self, leaf: &CertificateDer<'_>, issuers: &[CertificateDer<'_>]) -> bool {
        self.devices.verify_client_cert(leaf, issuers, UnixTime::now()).is_ok()
    }

    /// Whether a device believes the gateway.
    pub fn gateway(&self, leaf: &CertificateDer<'_>, issuers: &[CertificateDer<'_>]) -> bool {
        ServerName::try_from(GATEWAY_SERVER_NAME).is_ok_and(|name| {
            self.gateways.verify_server_cert(leaf, issuers, &name, &[], UnixTime::now()).is_ok()
        })
    }
}
