//! Which server CAs a device trusts, and how the gateway changes that: it adds CAs of the same realm, and takes back
//! those it names. Only a gateway that has proven itself to the present ones is heard.

use bytes::Bytes;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::name::single_uri;
use super::{DeviceIdentity, Fingerprint, IdentityError, TrustDomain, fingerprint};

/// Server CAs that a device trusts, at most. A rotation needs two.
const MOST: usize = 8;

impl DeviceIdentity {
    /// The fingerprints of the trusted server CAs, as the gateway hears them.
    pub fn pinned(&self) -> Vec<Fingerprint> {
        self.ca.iter().map(|certificate| fingerprint(certificate)).collect()
    }

    /// This identity with the server CAs that a gateway names (in DER), and without those it has retired (their
    /// fingerprints). `None`: it has these already. What is no server CA of this realm is left out, and the last
    /// trusted one is never taken back.
    pub fn trusting(&self, named: &[Bytes], retired: &[Bytes]) -> Option<Self> {
        let mut ca: Vec<_> = self.ca.clone();
        for der in named {
            let certificate = CertificateDer::from(der.to_vec());
            if ca.len() < MOST && !ca.contains(&certificate) {
                match is_ca_of(&certificate, &self.trust_domain) {
                    Ok(()) => ca.push(certificate),
                    Err(error) => tracing::warn!(%error, "the gateway named a server CA that is none"),
                }
            }
        }
        let is_retired = |certificate: &CertificateDer<'_>| {
            let name = fingerprint(certificate);
            retired.iter().any(|retired| retired[..] == name)
        };
        if ca.iter().any(|certificate| !is_retired(certificate)) {
            ca.retain(|certificate| !is_retired(certificate));
        }
        (ca != self.ca).then(|| Self { ca, ..self.clone() })
    }
}

fn is_ca_of(certificate: &CertificateDer<'_>, ours: &TrustDomain) -> Result<(), IdentityError> {
    let unusable = |why: &str| IdentityError::CertificatePem(why.to_owned());
    let (rest, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| unusable(&error.to_string()))?;
    if !rest.is_empty() || !parsed.is_ca() {
        return Err(unusable("it is not the certificate of a CA"));
    }
    match single_uri(&parsed).and_then(TrustDomain::from_uri) {
        Some(domain) if domain == *ours => Ok(()),
        _ => Err(IdentityError::NoTrustDomain),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{domain, identity};
    use super::super::{Ca, CaKind};
    use super::*;

    fn ca(domain: &TrustDomain) -> Bytes {
        Ca::generate(CaKind::Server, domain).unwrap().certificate().to_vec().into()
    }

    #[test]
    fn a_next_ca_is_trusted_beside_the_present_one_and_naming_it_again_changes_nothing() {
        let before = identity();
        let next = ca(&domain());
        let after = before.trusting(std::slice::from_ref(&next), &[]).unwrap();
        assert_eq!(after.ca.len(), 2);
        assert_eq!(after.ca[0], before.ca[0]);
        assert_eq!(after.pinned()[1], fingerprint(&next));
        assert!(after.trusting(&[next, before.ca[0].to_vec().into()], &[]).is_none());
    }

    #[test]
    fn a_retired_ca_is_forgotten_but_never_the_last() {
        let before = identity();
        let old = Bytes::from(fingerprint(&before.ca[0]).to_vec());
        assert!(before.trusting(&[], std::slice::from_ref(&old)).is_none());
        let after = before.trusting(&[ca(&domain())], &[old]).unwrap();
        assert_eq!(after.ca.len(), 1);
        assert_ne!(after.ca, before.ca);
    }

    #[test]
    fn what_is_no_server_ca_of_this_realm_is_not_trusted() {
        let before = identity();
        let leaf = before.chain[0].to_vec();
        let garbage: [Bytes; 4] =
            [Bytes::new(), vec![0x30; 100].into(), leaf.into(), ca(&"other.org".parse().unwrap())];
        assert!(before.trusting(&garbage, &[]).is_none());
    }

    #[test]
    fn the_number_of_trusted_cas_is_bounded() {
        let many: Vec<_> = (0..20).map(|_| ca(&domain())).collect();
        assert_eq!(identity().trusting(&many, &[]).unwrap().ca.len(), MOST);
    }
}
