//! A device's private key: P-256, made on the device, wiped when dropped, never printed.

use std::fmt;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::sign::SigningKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::IdentityError;

/// A P-256 private key. Its bytes exist here and, while TLS uses it, inside the crypto library.
#[derive(Clone)]
pub struct DeviceKey {
    pkcs8: Zeroizing<Vec<u8>>,
}

impl DeviceKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IdentityError::Key)?;
        let key = Self { pkcs8: Zeroizing::new(pair.serialized_der().to_vec()) };
        pair.zeroize();
        Ok(key)
    }

    /// Reads a `PRIVATE KEY` block.
    ///
    /// # Errors
    /// When the text holds none, or one of another kind.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let unreadable = |_| IdentityError::Key(rcgen::Error::CouldNotParseKeyPair);
        let mut der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(unreadable)?;
        let key = Self { pkcs8: Zeroizing::new(der.secret_pkcs8_der().to_vec()) };
        der.zeroize();
        key.with_pair(|_| ())?;
        Ok(key)
    }

    /// The key as a `PRIVATE KEY` block.
    ///
    /// # Errors
    /// Never for a key that was made by this type.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, IdentityError> {
        self.with_pair(|pair| Zeroizing::new(pair.serialize_pem()))
    }

    /// A signing request for this key. It asks for nothing but the signature: the gateway decides the names.
    ///
    /// # Errors
    /// When signing fails.
    pub fn csr_der(&self) -> Result<Vec<u8>, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = self.with_pair(|pair| params.serialize_request(pair))?;
        Ok(request.map_err(IdentityError::Sign)?.der().to_vec())
    }

    /// The public key as `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// Never for a key that was made by this type.
    pub fn public_der(&self) -> Result<Vec<u8>, IdentityError> {
        self.with_pair(PublicKeyData::subject_public_key_info)
    }

    /// A short name of the public key, for file names and logs.
    pub(super) fn fingerprint(&self) -> Result<String, IdentityError> {
        Ok(hex::encode(&Sha256::digest(self.public_der()?)[..8]))
    }

    /// The key as TLS uses it.
    pub(crate) fn signing_key(&self) -> Result<Arc<dyn SigningKey>, IdentityError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(&self.pkcs8[..]));
        rustls::crypto::ring::sign::any_ecdsa_type(&der)
            .map_err(|_| IdentityError::Key(rcgen::Error::CouldNotParseKeyPair))
    }

    /// Lends the key to rcgen, which keeps a copy of its bytes that has to be wiped.
    pub(super) fn with_pair<T>(&self, use_it: impl FnOnce(&KeyPair) -> T) -> Result<T, IdentityError> {
        let der = PrivatePkcs8KeyDer::from(&self.pkcs8[..]);
        let mut pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map_err(IdentityError::Key)?;
        let result = use_it(&pair);
        pair.zeroize();
        Ok(result)
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(..)")
    }
}
