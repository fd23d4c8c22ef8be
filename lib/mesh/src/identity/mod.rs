//! Who a device and a gateway are: keys, certificates, and the names in them. The gateway's server certificate
//! chains to a CA that devices pin; device certificates chain to another CA that only the gateway holds.

mod ca;
mod clock;
mod key;
mod name;
mod store;
mod trust;
mod validity;

pub use ca::{Ca, CaKind, Issued, ServerCertificate, certificates_from_pem};
pub use clock::WallClock;
pub use key::DeviceKey;
pub use name::{DeviceName, NameError, TrustDomain};
pub use store::DeviceIdentity;
pub use validity::{Fingerprint, Validity, fingerprint};

use std::io;
use std::path::PathBuf;

use synesis_proto::mesh::v1;

/// The name in every gateway's certificate. A device checks it whatever address it dialled, so addresses can change.
pub const GATEWAY_SERVER_NAME: &str = "gateway.synesis.internal";

/// Why a key, a certificate or a stored identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A key could not be made, or is not a P-256 key in PKCS#8.
    #[error("the private key is not usable")]
    Key(#[source] rcgen::Error),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random(#[source] getrandom::Error),
    /// The file holds no certificate, or one that does not parse.
    #[error("no usable certificate in the PEM text: {0}")]
    CertificatePem(String),
    /// Signing a certificate failed.
    #[error("signing the certificate failed")]
    Sign(#[source] rcgen::Error),
    /// A signing request is not one of ours: does not parse, wrong signature, wrong kind of key.
    #[error("the signing request is not acceptable: {0}")]
    Csr(String),
    /// A certificate names something else than it should.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The CA certificate is of the other kind, or none of ours.
    #[error("the CA certificate names no trust domain")]
    NoTrustDomain,
    /// A file could not be read or written.
    #[error("{path}: file access failed")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A stored identity was damaged. Enrolling again makes a new one.
    #[error("{path}: not a stored identity: {why}")]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A public key that receipts are signed with (Ed25519).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptKey {
    /// The name that receipts refer to it by.
    pub key_id: String,
    /// The raw key.
    pub public_key: [u8; 32],
}

impl TryFrom<v1::ReceiptKey> for ReceiptKey {
    type Error = BadReceiptKey;

    fn try_from(key: v1::ReceiptKey) -> Result<Self, BadReceiptKey> {
        let public_key = <[u8; 32]>::try_from(&key.public_key[..]).map_err(|_| BadReceiptKey)?;
        Ok(Self { key_id: key.key_id, public_key })
    }
}

impl From<ReceiptKey> for v1::ReceiptKey {
    fn from(key: ReceiptKey) -> Self {
        Self { key_id: key.key_id, public_key: key.public_key.to_vec().into() }
    }
}

/// A receipt key that is not 32 bytes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a receipt key is not 32 bytes long")]
pub struct BadReceiptKey;

#[cfg(test)]
mod tests;
