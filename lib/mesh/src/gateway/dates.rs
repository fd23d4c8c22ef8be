//! What a gateway makes of the dates in a device's certificate.

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use uuid::Uuid;

use crate::identity::{DeviceName, IdentityError, TrustDomain, Validity, WallClock};

/// How long a device may have been away and still come back without a person, when nobody says otherwise.
const GRACE: Duration = Duration::from_secs(365 * 86_400);

/// By which clock certificates are judged, and how long an expired one can still be renewed.
#[derive(Debug, Clone)]
pub struct Dates {
    /// The gateway's clock.
    pub clock: WallClock,
    /// Counted from the certificate's end. It opens nothing but its own renewal.
    pub grace: Duration,
}

impl Default for Dates {
    fn default() -> Self {
        Self { clock: WallClock::system(), grace: GRACE }
    }
}

/// The certificate a peer has proven to hold the key of. It is one of our trust domain, signed by one of our CAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whose it is.
    pub device_id: Uuid,
    /// Its serial number, in hex.
    pub serial: String,
    /// When it ends; that may have been.
    pub until: SystemTime,
}

impl PeerCertificate {
    pub(super) fn read(leaf: &CertificateDer<'_>, ours: &TrustDomain) -> Result<Self, IdentityError> {
        let name = DeviceName::in_domain(leaf, ours)?;
        let Validity { serial, until, .. } = Validity::of(leaf)?;
        Ok(Self { device_id: name.device_id, serial, until })
    }
}
