//! What rustls says about a certificate's dates, and the times it is asked with.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::{CertificateError, Error};
use rustls_pki_types::UnixTime;

/// The dates of a certificate do not cover the time it was checked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    TooYoung,
    TooOld,
}

pub(super) fn fault_of(error: &Error) -> Option<Fault> {
    match error {
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => Some(Fault::TooYoung),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            Some(Fault::TooOld)
        }
        _ => None,
    }
}

pub(super) fn unix(at: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}
