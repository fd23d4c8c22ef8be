//! The life of a certificate: from when until when it counts, when it is renewed, and which one of a device it is.

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::IdentityError;

/// A certificate that lives long enough is renewed this long before its end at the latest ...
const LATEST: Duration = Duration::from_secs(30 * 86_400);
/// ... which would be before two thirds of its life, if that is shorter than this.
const LONG: Duration = Duration::from_secs(90 * 86_400);
/// The part of a life in which the renewals of devices of the same day are spread: 18 days of a year.
const SPREAD: f64 = 1.0 / 20.0;

/// The SHA-256 of a certificate: what it is called where it does not travel itself.
pub type Fingerprint = [u8; 32];

/// The fingerprint of a certificate in DER.
pub fn fingerprint(certificate: &[u8]) -> Fingerprint {
    Sha256::digest(certificate).into()
}

/// When a certificate counts, and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: SystemTime,
    /// The last.
    pub until: SystemTime,
    /// The serial number, in hex, as [`Issued`](super::Issued) says it.
    pub serial: String,
}

impl Validity {
    /// Reads it from a certificate.
    ///
    /// # Errors
    /// When the certificate does not parse.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|error| IdentityError::CertificatePem(error.to_string()))?;
        let validity = parsed.validity();
        Ok(Self {
            from: validity.not_before.to_datetime().into(),
            until: validity.not_after.to_datetime().into(),
            serial: hex::encode(parsed.raw_serial()),
        })
    }

    /// When to ask for the next one: at two thirds of the life and a part of the spread that is always the same for
    /// this certificate, so that a fleet enrolled on one day does not come back on one day.
    pub fn renew_at(&self) -> SystemTime {
        let life = self.until.duration_since(self.from).unwrap_or_default();
        let [first, second, ..] = Sha256::digest(&self.serial)[..] else { return self.from };
        let jitter = f64::from(u16::from_be_bytes([first, second])) / f64::from(u16::MAX);
        let at = self.from + life.mul_f64(2.0 / 3.0) + life.mul_f64(SPREAD * jitter);
        if life < LONG { at } else { at.min(self.until - LATEST) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn lasting(days: u32, serial: usize) -> Validity {
        Validity { from: UNIX_EPOCH, until: UNIX_EPOCH + DAY * days, serial: serial.to_string() }
    }

    fn due(days: u32) -> Vec<f64> {
        let days_of =
            |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_secs_f64() / DAY.as_secs_f64();
        (0..500).map(|serial| days_of(lasting(days, serial).renew_at())).collect()
    }

    #[test]
    fn a_certificate_of_a_year_is_renewed_from_two_thirds_on_spread_over_eighteen_days() {
        let due = due(365);
        assert!(due.iter().all(|day| (243.3..=261.7).contains(day)), "{due:?}");
        let early = due.iter().filter(|day| **day < 252.5).count();
        assert!((150..350).contains(&early), "{early} of 500 in the first half");
        assert_eq!(lasting(365, 7).renew_at(), lasting(365, 7).renew_at());
    }

    #[test]
    fn thirty_days_before_the_end_it_is_due_whatever_the_spread_says() {
        assert!(due(91).iter().all(|day| (60.6..=61.0).contains(day)));
        // A short one has no thirty days to spare.
        assert!(due(30).iter().all(|day| (20.0..=21.5).contains(day)));
        assert_eq!(lasting(0, 1).renew_at(), UNIX_EPOCH);
    }
}
