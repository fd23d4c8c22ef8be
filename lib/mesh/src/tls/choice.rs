//! Which certificate a gateway shows. While server CAs change there are two, and a device that was away knows only one
//! of the CAs: it says which in its first message (RFC 8446, section 4.2.4).

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;
use crate::identity::IdentityError;

#[derive(Debug)]
struct Choice {
    /// The name of the CA that signed it, in DER.
    issuer: Vec<u8>,
    certified: Arc<CertifiedKey>,
}

/// The certificates, best first.
#[derive(Debug)]
pub(super) struct Choices(Vec<Choice>);

impl Choices {
    pub(super) fn new(all: Vec<CertifiedKey>) -> Result<Self, TlsError> {
        let choice = |certified: CertifiedKey| -> Result<Choice, TlsError> {
            certified.keys_match()?;
            let issuer = certified.cert.first().map(issuer_of).transpose()?.unwrap_or_default();
            Ok(Choice { issuer, certified: Arc::new(certified) })
        };
        all.into_iter().map(choice).collect::<Result<_, _>>().map(Self)
    }
}

impl ResolvesServerCert for Choices {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Who names no CA is of a version that knows of no change: it trusts the oldest.
        let Some(known) = hello.certificate_authorities() else {
            return self.0.last().map(|oldest| oldest.certified.clone());
        };
        let known: Vec<&[u8]> = known.iter().map(AsRef::as_ref).collect();
        let trusted = self.0.iter().find(|choice| known.contains(&choice.issuer.as_slice()));
        trusted.or(self.0.first()).map(|choice| choice.certified.clone())
    }
}

fn issuer_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, TlsError> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| IdentityError::CertificatePem(error.to_string()))?;
    Ok(parsed.issuer().as_raw().to_vec())
}
