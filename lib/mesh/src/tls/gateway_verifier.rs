//! How a device checks a gateway's certificate when its own clock may be wrong (ADR 0022).

use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::dates::{Fault, fault_of, unix};
use crate::identity::{Validity, WallClock};
use crate::kind::CLOCK_SKEW;

/// Chain, name and usage as rustls checks them, at a time that is never before `floor`: a device without a battery
/// for its clock wakes up in 1970, but it knows that its own certificate, and the CAs it pins, were made before now.
#[derive(Debug)]
pub(super) struct GatewayVerifier {
    pub(super) inner: Arc<WebPkiServerVerifier>,
    /// The names of the CAs that are trusted; the gateway hears them.
    pub(super) known: Vec<DistinguishedName>,
    pub(super) clock: WallClock,
    pub(super) floor: SystemTime,
}

impl GatewayVerifier {
    /// When a certificate that counts only from then on is accepted nevertheless. A clock behind the floor says
    /// nothing but "later than the floor", and then no certificate is too young.
    fn excused(&self, from: SystemTime) -> bool {
        let now = self.clock.now();
        now < self.floor || from <= now + CLOCK_SKEW
    }
}

impl ServerCertVerifier for GatewayVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |at: SystemTime| {
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp, unix(at))
        };
        let verified = verify(self.clock.now().max(self.floor));
        match &verified {
            Err(error) if fault_of(error) == Some(Fault::TooYoung) => match Validity::of(end_entity) {
                Ok(Validity { from, .. }) if self.excused(from) => verify(from),
                _ => verified,
            },
            _ => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        Some(&self.known)
    }
}
