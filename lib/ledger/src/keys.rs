//! The key that signs receipts, and the ring of public keys that checks them.

use std::collections::BTreeMap;
use std::fmt;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::{Receipt, SignedReceipt};

/// Why key material cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not an Ed25519 private key in PKCS#8 PEM.
    #[error("not an Ed25519 private key in PKCS#8 PEM")]
    PrivateKey(#[source] ed25519_dalek::pkcs8::Error),
    /// The key could not be written as PEM.
    #[error("the private key cannot be written as PEM")]
    Encode(#[source] ed25519_dalek::pkcs8::Error),
    /// Not a point of the curve, or one that anybody can sign for.
    #[error("not a usable Ed25519 public key")]
    PublicKey,
}

/// Why a receipt's signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The ring does not have the key that the receipt names.
    #[error("signed by the unknown key {0}")]
    UnknownKey(String),
    /// The signature is not by that key over these bytes.
    #[error("the signature does not match")]
    BadSignature,
}

/// The name of a public key: the first 16 hexadecimal digits of its SHA-256.
pub fn key_id(public: &[u8; 32]) -> String {
    let mut digits = hex::encode(Sha256::digest(public));
    digits.truncate(16);
    digits
}

/// Signs receipts. Wiped when dropped.
pub struct SigningKey {
    key: ed25519_dalek::SigningKey,
    key_id: String,
}

impl SigningKey {
    /// A new key from 32 bytes of the operating system's randomness.
    pub fn generate(mut random: [u8; 32]) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(&random);
        random.zeroize();
        Self::new(key)
    }

    /// Reads a private key from PKCS#8 PEM.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        ed25519_dalek::SigningKey::from_pkcs8_pem(pem).map(Self::new).map_err(KeyError::PrivateKey)
    }

    /// The private key as PKCS#8 PEM. Version 1, without the public key: what OpenSSL reads and writes.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let pair = KeypairBytes { secret_key: self.key.to_bytes(), public_key: None };
        pair.to_pkcs8_pem(LineEnding::LF).map_err(KeyError::Encode)
    }

    fn new(key: ed25519_dalek::SigningKey) -> Self {
        let key_id = key_id(key.verifying_key().as_bytes());
        Self { key, key_id }
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The name of the public key.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Signs a receipt's canonical bytes.
    pub fn sign(&self, receipt: Receipt) -> SignedReceipt {
        let signature = self.key.sign(&receipt.encode()).to_bytes();
        SignedReceipt { receipt, key_id: self.key_id.clone(), signature }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey {}(..)", self.key_id)
    }
}

/// The public keys that receipts may be signed with.
#[derive(Debug, Clone, Default)]
pub struct KeyRing(BTreeMap<String, VerifyingKey>);

impl KeyRing {
    /// A ring without keys: it verifies nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts a public key, and returns its name.
    pub fn insert(&mut self, public: [u8; 32]) -> Result<String, KeyError> {
        let key = VerifyingKey::from_bytes(&public).map_err(|_| KeyError::PublicKey)?;
        if key.is_weak() {
            return Err(KeyError::PublicKey);
        }
        let key_id = key_id(&public);
        self.0.insert(key_id.clone(), key);
        Ok(key_id)
    }

    /// Whether it trusts no key at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the signature of one receipt, by the key it names. Strict: no malleable signatures.
    pub fn verify(&self, signed: &SignedReceipt) -> Result<(), VerifyError> {
        let key = self.0.get(&signed.key_id).ok_or_else(|| VerifyError::UnknownKey(signed.key_id.clone()))?;
        key.verify_strict(&signed.receipt.encode(), &Signature::from_bytes(&signed.signature))
            .map_err(|_| VerifyError::BadSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_pem() {
        let key = SigningKey::generate([7; 32]);
        let pem = key.to_pkcs8_pem().unwrap();
        assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert_eq!(SigningKey::from_pkcs8_pem(&pem).unwrap().public(), key.public());
    }

    #[test]
    fn what_is_not_a_private_key_is_refused() {
        for pem in ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(matches!(SigningKey::from_pkcs8_pem(pem), Err(KeyError::PrivateKey(_))), "{pem:?}");
        }
    }

    #[test]
    fn a_key_anybody_can_sign_for_is_refused() {
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        assert!(matches!(KeyRing::new().insert(identity_point), Err(KeyError::PublicKey)));
        assert!(matches!(KeyRing::new().insert([2; 32]), Err(KeyError::PublicKey)));
    }

    #[test]
    fn a_private_key_never_prints() {
        let key = SigningKey::generate([7; 32]);
        assert_eq!(format!("{key:?}"), format!("SigningKey {}(..)", key.key_id()));
    }

    #[test]
    fn the_ring_names_a_key_as_its_owner_does() {
        let key = SigningKey::generate([7; 32]);
        assert_eq!(KeyRing::new().insert(key.public()).unwrap(), key.key_id());
        assert_eq!(key.key_id().len(), 16);
    }
}
