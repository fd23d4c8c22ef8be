//! The gateway's keys and certificates: made by `init`, read by `serve`. Those that are changed later, the certificates,
//! are named in `authorities.rs`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use synesis_ledger::{KeyError, SigningKey};
use synesis_mesh::identity::{Ca, CaKind, IdentityError, TrustDomain};
use zeroize::Zeroizing;

use crate::authorities::Authorities;

/// What devices pin: give this file to `synctl enroll --ca`.
pub(crate) const SERVER_CA: &str = "server-ca.pem";
const SERVER_CA_KEY: &str = "server-ca.key";
const DEVICE_CA: &str = "device-ca.pem";
const DEVICE_CA_KEY: &str = "device-ca.key";
const GATEWAY_CERTIFICATE: &str = "gateway.pem";
const GATEWAY_KEY: &str = "gateway.key";
const RECEIPT_KEY: &str = "receipt.key";
const RESET_KEY: &str = "reset.key";

/// Bytes in the key of QUIC's stateless resets.
const RESET_KEY_BYTES: usize = 32;
/// Files that only their owner may read.
pub(crate) const PRIVATE: u32 = 0o600;
/// Certificates, which anybody may read.
pub(crate) const PUBLIC: u32 = 0o644;

/// Everything `serve` needs from the folder.
pub(crate) struct Pki {
    pub(crate) authorities: Authorities,
    pub(crate) receipt_key: SigningKey,
    /// Lets a restarted gateway tell devices of the former process that their connection is gone.
    pub(crate) reset_key: Zeroizing<[u8; RESET_KEY_BYTES]>,
}

impl Pki {
    /// A name for this gateway that outlives its certificates: the reset key stays as long as the folder.
    pub(crate) fn gateway_id(&self) -> String {
        let named = Sha256::new().chain_update(b"synesis gateway id 1").chain_update(*self.reset_key);
        format!("gw-{}", hex::encode(&named.finalize()[..4]))
    }
}

/// Why keys could not be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    #[error("{} cannot be {action}", path.display())]
    File {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{} holds no usable certificate or key", path.display())]
    Identity {
        path: PathBuf,
        #[source]
        source: IdentityError,
    },
    #[error("{} holds no usable receipt key", path.display())]
    ReceiptKey {
        path: PathBuf,
        #[source]
        source: KeyError,
    },
    #[error("{} is not usable: {why}", path.display())]
    Manifest { path: PathBuf, why: String },
    #[error("{} is not a reset key: {RESET_KEY_BYTES} bytes in hex", .0.display())]
    ResetKey(PathBuf),
    #[error("the device CA signs for the trust domain {ca}, but the configuration says {configured}")]
    OtherTrustDomain { ca: String, configured: String },
    #[error("keys cannot be made")]
    Make(#[source] IdentityError),
    #[error("the receipt key cannot be made")]
    MakeReceiptKey(#[source] KeyError),
    #[error("the operating system gave no random bytes")]
    Random(#[source] getrandom::Error),
}

impl PkiError {
    /// What the operator can do about it.
    pub(crate) fn next_step(&self) -> String {
        match self {
            Self::Exists(_) => "name another folder; init never overwrites a key".into(),
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "make the keys with `synesis-gateway init --dir DIR` and set pki.dir to DIR/pki".into()
            }
            Self::File { .. } => "check the permissions of the file and its folder".into(),
            Self::OtherTrustDomain { ca, .. } => format!("set trust_domain = {ca:?}"),
            Self::Identity { .. } | Self::ReceiptKey { .. } | Self::Manifest { .. } | Self::ResetKey(_) => {
                "restore the file from your backup; new keys mean that every device enrols again".into()
            }
            Self::Make(_) | Self::MakeReceiptKey(_) | Self::Random(_) => "try again".into(),
        }
    }
}

/// Makes every key and certificate in `folder`, which must not exist: all of them or none.
pub(crate) fn make(folder: &Path, trust_domain: &TrustDomain) -> Result<(), PkiError> {
    if folder.exists() {
        return Err(PkiError::Exists(folder.to_path_buf()));
    }
    let server_ca = Ca::generate(CaKind::Server, trust_domain).map_err(PkiError::Make)?;
    let device_ca = Ca::generate(CaKind::Device, trust_domain).map_err(PkiError::Make)?;
    let gateway = server_ca.issue_server(&[]).map_err(PkiError::Make)?;
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *random).map_err(PkiError::Random)?;
    let receipt_key = SigningKey::generate(*random).to_pkcs8_pem().map_err(PkiError::MakeReceiptKey)?;
    let mut reset_key = Zeroizing::new([0; RESET_KEY_BYTES]);
    getrandom::fill(&mut *reset_key).map_err(PkiError::Random)?;

    let half_made = folder.with_extension(format!("making-{}", std::process::id()));
    DirBuilder::new().mode(0o700).recursive(true).create(&half_made).map_err(failed(&half_made, "made"))?;
    let files: [(&str, u32, &str); 8] = [
        (SERVER_CA, PUBLIC, &server_ca.certificate_pem()),
        (SERVER_CA_KEY, PRIVATE, &server_ca.key_pem().map_err(PkiError::Make)?),
        (DEVICE_CA, PUBLIC, &device_ca.certificate_pem()),
        (DEVICE_CA_KEY, PRIVATE, &device_ca.key_pem().map_err(PkiError::Make)?),
        (GATEWAY_CERTIFICATE, PUBLIC, &gateway.chain_pem),
        (GATEWAY_KEY, PRIVATE, &gateway.key_pem),
        (RECEIPT_KEY, PRIVATE, &receipt_key),
        (RESET_KEY, PRIVATE, &Zeroizing::new(hex::encode(*reset_key))),
    ];
    for (name, mode, text) in files {
        write_new(&half_made.join(name), mode, text)?;
    }
    File::open(&half_made).and_then(|dir| dir.sync_all()).map_err(failed(&half_made, "written"))?;
    // The folder appears whole: a rename onto a folder that came meanwhile fails, because that one is not empty.
    fs::rename(&half_made, folder).map_err(failed(folder, "made"))
}

/// Writes a file that must not exist, durably, with exactly these permissions.
pub(crate) fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), PkiError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                PkiError::Exists(path.to_path_buf())
            } else {
                PkiError::File { path: path.to_path_buf(), action: "made", source }
            }
        })?;
    let written = file
        .set_permissions(fs::Permissions::from_mode(mode))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all());
    written.map_err(failed(path, "written"))
}

/// Reads what [`make`] made, and what became of it, and checks that it belongs together.
pub(crate) fn load(folder: &Path, trust_domain: &str) -> Result<Pki, PkiError> {
    let authorities = Authorities::load(folder)?;
    let ca_domain = authorities.device.issuing.trust_domain().as_str();
    if ca_domain != trust_domain {
        return Err(PkiError::OtherTrustDomain {
            ca: ca_domain.to_owned(),
            configured: trust_domain.to_owned(),
        });
    }
    let receipt_key_file = folder.join(RECEIPT_KEY);
    let receipt_key = SigningKey::from_pkcs8_pem(&read_private(&receipt_key_file)?)
        .map_err(|source| PkiError::ReceiptKey { path: receipt_key_file, source })?;
    let reset_key_file = folder.join(RESET_KEY);
    let reset_key = reset_key(&read_private(&reset_key_file)?);
    Ok(Pki { authorities, receipt_key, reset_key: reset_key.ok_or(PkiError::ResetKey(reset_key_file))? })
}

/// Puts a file in the place of another, durably: temporary name, fsync, rename, fsync of the folder.
pub(crate) fn replace(path: &Path, mode: u32, text: &str) -> Result<(), PkiError> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(&temporary, "removed")(error));
        }
        _ => {}
    }
    write_new(&temporary, mode, text)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::rename(&temporary, path)
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(failed(path, "written"))
}

fn reset_key(text: &str) -> Option<Zeroizing<[u8; RESET_KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; RESET_KEY_BYTES]);
    hex::decode_to_slice(text.trim(), &mut *key).ok()?;
    Some(key)
}

pub(crate) fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(failed(path, "read"))
}

pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<String>, PkiError> {
    let text = read(path).map(Zeroizing::new)?;
    let mode = fs::metadata(path).map_err(failed(path, "read"))?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format_args!("{:o}", mode & 0o777), "a private key is readable by others; chmod 600 it");
    }
    Ok(text)
}

pub(crate) fn failed(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> PkiError + use<> {
    let path = path.to_path_buf();
    move |source| PkiError::File { path, action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        "test.internal".parse().unwrap()
    }

    #[test]
    fn what_is_made_can_be_loaded_and_private_files_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        make(&pki, &domain()).unwrap();
        load(&pki, "test.internal").unwrap();
        for entry in fs::read_dir(&pki).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            let certificate = entry.path().extension().is_some_and(|extension| extension == "pem");
            assert_eq!(mode, if certificate { PUBLIC } else { PRIVATE }, "{:?}", entry.path());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half made is left");
    }

    #[test]
    fn keys_are_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        make(&pki, &domain()).unwrap();
        let before = fs::read(pki.join(RECEIPT_KEY)).unwrap();
        assert!(matches!(make(&pki, &domain()), Err(PkiError::Exists(_))));
        assert_eq!(fs::read(pki.join(RECEIPT_KEY)).unwrap(), before);
    }

    #[test]
    fn another_trust_domain_is_told_with_the_right_one() {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        make(&pki, &domain()).unwrap();
        let error = load(&pki, "other.internal").err().unwrap();
        assert_eq!(error.next_step(), "set trust_domain = \"test.internal\"");
    }

    #[test]
    fn damaged_files_are_errors_that_name_the_file() {
        for name in [DEVICE_CA, DEVICE_CA_KEY, RECEIPT_KEY, RESET_KEY] {
            let folder = tempfile::tempdir().unwrap();
            let pki = folder.path().join("pki");
            make(&pki, &domain()).unwrap();
            fs::write(pki.join(name), "damaged").unwrap();
            let error = load(&pki, "test.internal").err().unwrap();
            assert!(error.to_string().contains(name.split('.').next().unwrap()), "{error}");
        }
    }
}
