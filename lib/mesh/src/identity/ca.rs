//! The two certificate authorities: one signs gateways (devices pin it), one signs devices (only the gateway knows
//! it). What a certificate says is decided here and nowhere else; a signing request contributes its key only.

use std::fmt;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::name::single_uri;
use super::{
    DeviceKey, DeviceName, Fingerprint, GATEWAY_SERVER_NAME, IdentityError, TrustDomain, fingerprint,
};

/// A device certificate is renewed long before this.
const DEVICE_DAYS: i64 = 365;
const SERVER_DAYS: i64 = 5 * 365;
const CA_DAYS: i64 = 10 * 365;
/// Certificates are valid a little before they were made, for clocks that are behind.
const BACKDATE: Duration = Duration::hours(1);
/// A P-256 request is some 300 bytes.
const MAX_CSR: usize = 8 * 1024;

/// What a CA signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaKind {
    /// Gateways. Devices pin this one.
    Server,
    /// Devices. Gateways pin this one.
    Device,
}

/// A certificate authority: a certificate and its private key.
pub struct Ca {
    certificate: CertificateDer<'static>,
    key: DeviceKey,
    trust_domain: TrustDomain,
}

/// A signed device certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate, then its issuer.
    pub chain: Vec<CertificateDer<'static>>,
    /// When it ends.
    pub not_after: SystemTime,
    /// The serial number, in hex, for the gateway's records.
    pub serial: String,
}

/// A gateway's certificate and key, as files.
pub struct ServerCertificate {
    /// The certificate, then its issuer.
    pub chain_pem: String,
    /// The private key.
    pub key_pem: Zeroizing<String>,
    /// When it ends.
    pub not_after: SystemTime,
}

impl Ca {
    /// A new CA with a new key, valid ten years.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(kind: CaKind, trust_domain: &TrustDomain) -> Result<Self, IdentityError> {
        Self::generate_at(kind, trust_domain, SystemTime::now())
    }

    /// The same, made at another time.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate_at(
        kind: CaKind,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Self, IdentityError> {
        let what = match kind {
            CaKind::Server => "gateway CA",
            CaKind::Device => "device CA",
        };
        let mut params = parameters("", CA_DAYS, now)?;
        // Each CA has a name of its own: a device tells gateways by their names which it trusts.
        let serial = params.serial_number.as_ref().map(|serial| hex::encode(serial.to_bytes()));
        let number = serial.as_deref().and_then(|hex| hex.get(..8)).unwrap_or_default();
        let name = format!("Synesis {what} {trust_domain} {number}");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&trust_domain.uri())?];
        params.use_authority_key_identifier_extension = false;
        let key = DeviceKey::generate()?;
        let certificate = key.with_pair(|pair| params.self_signed(pair))?.map_err(IdentityError::Sign)?;
        Ok(Self { certificate: certificate.into(), key, trust_domain: trust_domain.clone() })
    }

    /// Reads a CA that [`Self::certificate_pem`] and [`Self::key_pem`] wrote.
    ///
    /// # Errors
    /// When either text is unusable, or the two do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let key = DeviceKey::from_pem(key)?;
        let certificate = certificates_from_pem(certificate.as_bytes())?.swap_remove(0);
        let trust_domain = {
            let parsed = parse(&certificate)?;
            if parsed.public_key().raw != key.public_der()? {
                return Err(IdentityError::CertificatePem("the key belongs to another certificate".into()));
            }
            single_uri(&parsed).and_then(TrustDomain::from_uri).ok_or(IdentityError::NoTrustDomain)?
        };
        Ok(Self { certificate, key, trust_domain })
    }

    /// The certificate, which may be shown to anybody.
    pub fn certificate_pem(&self) -> String {
        to_pem(std::slice::from_ref(&self.certificate))
    }

    /// The private key.
    ///
    /// # Errors
    /// Never for a CA that was made by this type.
    pub fn key_pem(&self) -> Result<Zeroizing<String>, IdentityError> {
        self.key.to_pem()
    }

    /// What the certificate is called where it does not travel itself.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.certificate)
    }

    /// When the CA itself ends.
    ///
    /// # Errors
    /// Never for a CA that was made by this type.
    pub fn not_after(&self) -> Result<SystemTime, IdentityError> {
        end_of(&self.certificate)
    }

    /// The certificate in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The realm this CA signs for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// A certificate of 365 days for a device: `CN=device-<uuid>`, `spiffe://<trust-domain>/device/<uuid>`, for
    /// clients only. Names and extensions in the request are ignored.
    ///
    /// # Errors
    /// [`IdentityError::Csr`] when the request is not a correctly signed one for a P-256 key.
    pub fn sign_device_csr(&self, csr_der: &[u8], device_id: Uuid) -> Result<Issued, IdentityError> {
        self.sign_device_csr_at(csr_der, device_id, SystemTime::now())
    }

    /// The same, signed at another time.
    ///
    /// # Errors
    /// As [`Self::sign_device_csr`].
    pub fn sign_device_csr_at(
        &self,
        csr_der: &[u8],
        device_id: Uuid,
        now: SystemTime,
    ) -> Result<Issued, IdentityError> {
        if csr_der.len() > MAX_CSR {
            return Err(IdentityError::Csr(format!("{} bytes are too many", csr_der.len())));
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
            .map_err(|error| IdentityError::Csr(error.to_string()))?;
        if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(IdentityError::Csr("the key is not a P-256 key".into()));
        }
        let name = DeviceName { trust_domain: self.trust_domain.clone(), device_id };
        let mut params = parameters(&format!("device-{device_id}"), DEVICE_DAYS, now)?;
        params.subject_alt_names = vec![uri(&name.to_string())?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, &request.public_key)
    }

    /// A new key and a certificate for a gateway, valid five years: `names` beside [`GATEWAY_SERVER_NAME`], for
    /// servers only.
    ///
    /// # Errors
    /// When a name is not a host name.
    pub fn issue_server(&self, names: &[String]) -> Result<ServerCertificate, IdentityError> {
        self.issue_server_at(names, SystemTime::now())
    }

    /// The same, issued at another time.
    ///
    /// # Errors
    /// When a name is not a host name.
    pub fn issue_server_at(
        &self,
        names: &[String],
        now: SystemTime,
    ) -> Result<ServerCertificate, IdentityError> {
        let mut params = parameters(GATEWAY_SERVER_NAME, SERVER_DAYS, now)?;
        for name in std::iter::once(GATEWAY_SERVER_NAME).chain(names.iter().map(String::as_str)) {
            let name = name.try_into().map_err(IdentityError::Sign)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = DeviceKey::generate()?;
        let issued = key.with_pair(|pair| self.issue(params, pair))??;
        let (chain_pem, key_pem) = (to_pem(&issued.chain), key.to_pem()?);
        Ok(ServerCertificate { chain_pem, key_pem, not_after: issued.not_after })
    }

    fn issue(&self, params: CertificateParams, key: &impl PublicKeyData) -> Result<Issued, IdentityError> {
        let not_after = params.not_after.into();
        let serial = params.serial_number.as_ref().map(|s| hex::encode(s.to_bytes())).unwrap_or_default();
        let leaf = self.key.with_pair(|pair| {
            let issuer = Issuer::from_ca_cert_der(&self.certificate, pair)?;
            params.signed_by(key, &issuer)
        })?;
        let leaf = leaf.map_err(IdentityError::Sign)?.into();
        Ok(Issued { chain: vec![leaf, self.certificate.clone()], not_after, serial })
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ca({}, ..)", self.trust_domain)
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCertificate(..)")
    }
}

/// What all our certificates have in common.
fn parameters(common_name: &str, days: i64, now: SystemTime) -> Result<CertificateParams, IdentityError> {
    let now = OffsetDateTime::from(now);
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(IdentityError::Random)?;
    // Positive and of full length, as RFC 5280 wants it.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATE;
    params.not_after = now + Duration::days(days);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn uri(text: &str) -> Result<SanType, IdentityError> {
    Ok(SanType::URI(text.try_into().map_err(IdentityError::Sign)?))
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    let parsed = X509Certificate::from_der(certificate);
    parsed.map(|(_, parsed)| parsed).map_err(|error| IdentityError::CertificatePem(error.to_string()))
}

/// The public key in a certificate, as `SubjectPublicKeyInfo`.
pub(super) fn public_key_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, IdentityError> {
    Ok(parse(certificate)?.public_key().raw.to_vec())
}

/// The moment a certificate ends.
pub(super) fn end_of(certificate: &CertificateDer<'_>) -> Result<SystemTime, IdentityError> {
    Ok(parse(certificate)?.validity().not_after.to_datetime().into())
}

/// Every `CERTIFICATE` block of a PEM text; at least one, each of which parses.
///
/// # Errors
/// When there is none, or one that does not parse.
pub fn certificates_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let unusable = |why: String| IdentityError::CertificatePem(why);
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        parse(&certificate)?;
        found.push(certificate);
    }
    if found.is_empty() { Err(unusable("no CERTIFICATE block".into())) } else { Ok(found) }
}

/// The certificates as PEM blocks, 64 characters a line.
pub(super) fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    use std::fmt::Write;

    let mut out = String::new();
    for certificate in certificates {
        out.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(certificate);
        for line in text.as_bytes().chunks(64) {
            // Writing to a `String` cannot fail.
            let _ = writeln!(out, "{}", String::from_utf8_lossy(line));
        }
        out.push_str("-----END CERTIFICATE-----\n");
    }
    out
}
