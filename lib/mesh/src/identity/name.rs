//! The names in certificates: `spiffe://<trust-domain>/device/<uuid>`, parsed strictly so that a value of these
//! types is a name this project issued.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use uuid::Uuid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const SCHEME: &str = "spiffe://";
const DEVICE_PATH: &str = "/device/";
const MAX_TRUST_DOMAIN: usize = 255;

/// Why a name, or the name in a certificate, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not 1 to 255 of `a-z 0-9 . - _`.
    #[error("'{0}' is not a trust domain (lower-case letters, digits, '.', '-' and '_')")]
    TrustDomain(String),
    /// Not `spiffe://<trust-domain>/device/<uuid>`.
    #[error("'{0}' does not name a device")]
    Device(String),
    /// The certificate does not parse, or lacks exactly one URI name.
    #[error("the certificate does not carry exactly one URI name")]
    NoName,
    /// The certificate may not be used by a client.
    #[error("the certificate is not for clients")]
    NotForClients,
    /// The name belongs to another trust domain.
    #[error("the certificate belongs to the trust domain '{0}'")]
    OtherDomain(TrustDomain),
}

/// The realm whose devices a gateway serves: the authority part of a SPIFFE id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The text, as in a SPIFFE id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE id of the trust domain itself, as CA certificates carry it.
    pub(super) fn uri(&self) -> String {
        format!("{SCHEME}{self}")
    }

    pub(super) fn from_uri(uri: &str) -> Option<Self> {
        uri.strip_prefix(SCHEME)?.parse().ok()
    }
}

impl FromStr for TrustDomain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if (1..=MAX_TRUST_DOMAIN).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(NameError::TrustDomain(text.chars().take(MAX_TRUST_DOMAIN).collect()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A device's name: the URI in its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceName {
    /// The realm.
    pub trust_domain: TrustDomain,
    /// The device in it.
    pub device_id: Uuid,
}

impl DeviceName {
    /// The name in a client certificate. Says nothing about who signed it.
    ///
    /// # Errors
    /// When the certificate is not for clients, or does not carry exactly one URI that names a device.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, NameError> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| NameError::NoName)?;
        match parsed.extended_key_usage() {
            Ok(Some(usage)) if usage.value.client_auth => {}
            _ => return Err(NameError::NotForClients),
        }
        single_uri(&parsed).ok_or(NameError::NoName)?.parse()
    }

    /// Like [`Self::from_certificate`], for one trust domain only.
    ///
    /// # Errors
    /// Also [`NameError::OtherDomain`].
    pub fn in_domain(certificate: &CertificateDer<'_>, ours: &TrustDomain) -> Result<Self, NameError> {
        let name = Self::from_certificate(certificate)?;
        if name.trust_domain == *ours { Ok(name) } else { Err(NameError::OtherDomain(name.trust_domain)) }
    }
}

/// The one URI among the alternative names, if there is exactly one.
pub(super) fn single_uri<'a>(certificate: &X509Certificate<'a>) -> Option<&'a str> {
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let first = uris.next()?;
    uris.next().is_none().then_some(first)
}

impl FromStr for DeviceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let (domain, id) = text.strip_prefix(SCHEME)?.split_once(DEVICE_PATH)?;
            let device_id = Uuid::from_str(id).ok()?;
            // One spelling per device: hyphenated lower case, as issued.
            let canonical = device_id.hyphenated().to_string() == id;
            canonical.then_some(())?;
            Some(Self { trust_domain: domain.parse().ok()?, device_id })
        };
        parse().ok_or_else(|| NameError::Device(text.chars().take(MAX_TRUST_DOMAIN).collect()))
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{DEVICE_PATH}{}", self.trust_domain, self.device_id.hyphenated())
    }
}
