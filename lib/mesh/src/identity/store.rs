//! What a device is after enrolment, and how it is kept: `identity.json` (public) names the key file
//! `device-<fingerprint>.key` (0600). Renaming `identity.json` into place is the moment a new identity counts, so a
//! power cut leaves the old identity or the new one, never a certificate without its key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::ca::{certificates_from_pem, public_key_of, to_pem};
use super::{DeviceKey, DeviceName, IdentityError, ReceiptKey, TrustDomain, Validity};

const IDENTITY_FILE: &str = "identity.json";
const FORMAT: u32 = 1;

/// An enrolled device: its name, its key and certificate, and whom it trusts.
#[derive(Debug, Clone)]
pub struct DeviceIdentity {
    /// The device's id, chosen by the gateway.
    pub device_id: Uuid,
    /// The account it belongs to.
    pub account: String,
    /// The gateway's realm.
    pub trust_domain: TrustDomain,
    /// The private key.
    pub key: DeviceKey,
    /// The certificate, then its issuers.
    pub chain: Vec<CertificateDer<'static>>,
    /// The CAs that sign the gateway's certificate.
    pub ca: Vec<CertificateDer<'static>>,
    /// The keys that sign receipts.
    pub receipt_keys: Vec<ReceiptKey>,
    /// Where this device enrolled: `host:port`.
    pub gateway: String,
}

/// The public part, as stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    device_id: Uuid,
    account: String,
    trust_domain: String,
    gateway: String,
    key_file: String,
    chain_pem: String,
    ca_pem: String,
    receipt_keys: Vec<StoredReceiptKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredReceiptKey {
    key_id: String,
    public_key: String,
}

impl DeviceIdentity {
    /// Checks that the parts belong together: the certificate is for this key and names this device.
    ///
    /// # Errors
    /// When they do not, with a sentence that says which.
    pub fn check(&self) -> Result<(), IdentityError> {
        let leaf = self.chain.first();
        let leaf = leaf.ok_or_else(|| IdentityError::CertificatePem("the chain is empty".into()))?;
        if public_key_of(leaf)? != self.key.public_der()? {
            return Err(IdentityError::CertificatePem("the certificate is for another key".into()));
        }
        let name = DeviceName::in_domain(leaf, &self.trust_domain)?;
        if name.device_id == self.device_id {
            return Ok(());
        }
        Err(IdentityError::CertificatePem(format!("the certificate names {}", name.device_id)))
    }

    /// When the certificate ends.
    ///
    /// # Errors
    /// When the certificate does not parse.
    pub fn not_after(&self) -> Result<SystemTime, IdentityError> {
        Ok(self.validity()?.until)
    }

    /// The certificate's life.
    ///
    /// # Errors
    /// When the certificate does not parse.
    pub fn validity(&self) -> Result<Validity, IdentityError> {
        let leaf = self.chain.first();
        Validity::of(leaf.ok_or_else(|| IdentityError::CertificatePem("the chain is empty".into()))?)
    }

    /// Stores this identity in `dir` (made with mode 0700 if absent), replacing another. Durable when it returns.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// When a file cannot be written; the identity stored before, if any, then still counts.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        make_folder(dir)?;
        let key_file = format!("device-{}.key", self.key.fingerprint()?);
        write_durably(dir, &key_file, self.key.to_pem()?.as_bytes())?;
        let keys = self.receipt_keys.iter();
        let stored = Stored {
            format: FORMAT,
            device_id: self.device_id,
            account: self.account.clone(),
            trust_domain: self.trust_domain.to_string(),
            gateway: self.gateway.clone(),
            chain_pem: to_pem(&self.chain),
            ca_pem: to_pem(&self.ca),
            receipt_keys: keys
                .map(|k| StoredReceiptKey { key_id: k.key_id.clone(), public_key: hex::encode(k.public_key) })
                .collect(),
            key_file: key_file.clone(),
        };
        let path = dir.join(IDENTITY_FILE);
        let text = serde_json::to_vec_pretty(&stored).map_err(|e| in_file(&path)(e.into()))?;
        write_durably(dir, IDENTITY_FILE, &text)?;
        forget_keys(dir, Some(&key_file))
    }

    /// The identity stored in `dir`, or `None` when there is none. Blocks on the disk.
    ///
    /// # Errors
    /// When a file cannot be read, or [`IdentityError::Corrupt`].
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = dir.join(IDENTITY_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(in_file(&path)(error)),
        };
        let corrupt = |why: String| IdentityError::Corrupt { path: path.clone(), why };
        let stored: Stored = serde_json::from_slice(&text).map_err(|error| corrupt(error.to_string()))?;
        if stored.format != FORMAT {
            return Err(corrupt(format!("format {} is not known to this version", stored.format)));
        }
        let identity = stored.open(dir).map_err(|error| match error {
            // Files are named already; everything else gets the name of this one.
            named @ IdentityError::File { .. } => named,
            other => corrupt(other.to_string()),
        })?;
        identity.check().map_err(|error| corrupt(error.to_string()))?;
        Ok(Some(identity))
    }

    /// Forgets the identity in `dir`, the key last. Nothing to forget is no error. Blocks on the disk.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn remove(dir: &Path) -> Result<(), IdentityError> {
        if !dir.exists() {
            return Ok(());
        }
        let path = dir.join(IDENTITY_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(in_file(&path)(error)),
            _ => forget_keys(dir, None),
        }
    }
}

impl Stored {
    fn open(self, dir: &Path) -> Result<DeviceIdentity, IdentityError> {
        let bad = |why: &str| IdentityError::CertificatePem(why.to_owned());
        if !is_key_file(&self.key_file) {
            return Err(bad("the key file's name is not one of ours"));
        }
        let key_path = dir.join(&self.key_file);
        let key = Zeroizing::new(fs::read_to_string(&key_path).map_err(in_file(&key_path))?);
        let mut receipt_keys = Vec::with_capacity(self.receipt_keys.len());
        for stored in self.receipt_keys {
            let mut public_key = [0; 32];
            hex::decode_to_slice(&stored.public_key, &mut public_key).map_err(|_| bad("a receipt key"))?;
            receipt_keys.push(ReceiptKey { key_id: stored.key_id, public_key });
        }
        Ok(DeviceIdentity {
            device_id: self.device_id,
            account: self.account,
            trust_domain: self.trust_domain.parse()?,
            key: DeviceKey::from_pem(&key)?,
            chain: certificates_from_pem(self.chain_pem.as_bytes())?,
            ca: certificates_from_pem(self.ca_pem.as_bytes())?,
            receipt_keys,
            gateway: self.gateway,
        })
    }
}

fn is_key_file(name: &str) -> bool {
    let middle = name.strip_prefix("device-").and_then(|rest| rest.strip_suffix(".key"));
    middle.is_some_and(|hex| !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn make_folder(dir: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(in_file(dir))
}

/// Creates `dir/name` with mode 0600: temporary name, fsync, rename, fsync of the folder.
fn write_durably(dir: &Path, name: &str, content: &[u8]) -> Result<(), IdentityError> {
    let temporary = dir.join(format!(".{name}.new"));
    let path = dir.join(name);
    let write = || {
        // A leftover of an interrupted attempt may have another mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(in_file(&path))
}

/// Removes key files, except the one in use.
fn forget_keys(dir: &Path, keep: Option<&str>) -> Result<(), IdentityError> {
    let forget = || {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if is_key_file(name) && Some(name) != keep {
                fs::remove_file(entry.path())?;
            }
        }
        File::open(dir)?.sync_all()
    };
    forget().map_err(in_file(dir))
}

fn in_file(path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = PathBuf::from(path);
    move |source| IdentityError::File { path, source }
}
