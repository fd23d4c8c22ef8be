//! How a gateway checks a device's certificate: chain, usage and name without mercy, dates with some.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::dates::{Fault, fault_of, unix};
use crate::identity::{DeviceName, TrustDomain, Validity, WallClock};
use crate::kind::CLOCK_SKEW;

/// Chain, dates and usage as rustls checks them, and then the name: a device of our own trust domain. A certificate
/// that ended within the grace passes too, because who shows it has to be told so, or may renew it: what it still
/// opens is decided after the handshake.
#[derive(Debug)]
pub(super) struct DeviceVerifier {
    pub(super) chained: Arc<dyn ClientCertVerifier>,
    pub(super) trust_domain: TrustDomain,
    pub(super) clock: WallClock,
    pub(super) grace: Duration,
}

/// It counts only from a time on that our clock has not reached. On the wire it is the alert `certificate_unknown`, which
/// nothing else here uses, so that a device can tell it from an expired one.
#[derive(Debug)]
struct NotYetValid;

impl fmt::Display for NotYetValid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the certificate is not valid yet")
    }
}

impl std::error::Error for NotYetValid {}

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
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verify = |at| self.chained.verify_client_cert(end_entity, intermediates, unix(at));
        let now = self.clock.now();
        let verified = verify(now).or_else(|error| {
            let (Some(fault), Ok(validity)) = (fault_of(&error), Validity::of(end_entity)) else {
                return Err(error);
            };
            match fault {
                Fault::TooYoung if validity.from <= now + CLOCK_SKEW => verify(validity.from),
                Fault::TooYoung => Err(CertificateError::Other(OtherError(Arc::new(NotYetValid))).into()),
                Fault::TooOld if now <= validity.until + self.grace => verify(validity.until),
                Fault::TooOld => Err(error),
            }
        })?;
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
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chained.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chained.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chained.supported_verify_schemes()
    }
}
