//! The alerts with which a gateway refuses a device's certificate: one meaning each, for both ends.

use std::fmt;
use std::io;

use rustls::AlertDescription;

/// Why a gateway refuses a device's certificate in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateFault {
    /// None of the CAs that this gateway trusts signed it; a self-signed one too.
    UnknownCa,
    /// It ended, and longer ago than the gateway's grace.
    Expired,
    /// It counts only from a later time on.
    NotYetValid,
    /// It is not for clients.
    WrongUse,
    /// It names no device of this gateway's realm.
    WrongName,
    /// It is no certificate, or not the one of the key that was used.
    Broken,
}

impl CertificateFault {
    /// What this end refused a certificate for, if an error of TLS over TCP says so.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(why)) => {
                Self::from_alert(u8::from(AlertDescription::from(why.clone())).into())
            }
            _ => None,
        }
    }

    /// The meaning of a TLS alert (RFC 8446, section 6.2), if it is about a certificate.
    pub(crate) const fn from_alert(alert: u64) -> Option<Self> {
        Some(match alert {
            48 => Self::UnknownCa,
            45 => Self::Expired,
            46 => Self::NotYetValid,
            43 => Self::WrongUse,
            49 => Self::WrongName,
            42 | 50 | 51 => Self::Broken,
            _ => return None,
        })
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownCa => "it is not signed by a CA of this gateway",
            Self::Expired => "it has expired, longer ago than the gateway's grace allows",
            Self::NotYetValid => "it is not valid yet by the gateway's clock",
            Self::WrongUse => "it is not for clients",
            Self::WrongName => "it names no device of this gateway",
            Self::Broken => "it is broken",
        })
    }
}
