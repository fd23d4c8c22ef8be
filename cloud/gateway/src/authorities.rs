//! Which certificate authorities there are, and what the gateway shows of them. `authorities.json` in pki.dir names their
//! files; replacing it is the moment a change counts, so a power cut leaves the former authorities or the next ones.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use synesis_mesh::identity::{
    Ca, CaKind, Fingerprint, IdentityError, Validity, certificates_from_pem, fingerprint,
};
use zeroize::Zeroizing;

use crate::pki::{PRIVATE, PkiError, failed, read, read_private, replace};

const MANIFEST: &str = "authorities.json";
const FORMAT: u32 = 1;

/// The files, by name without ending.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: u32,
    pub(crate) server: Names,
    pub(crate) device: Names,
    /// The gateway's own certificate from each server CA that it has one of.
    pub(crate) gateway: BTreeMap<String, String>,
}

/// The authorities of one kind, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Names {
    pub(crate) issuing: String,
    /// The issuing one is among them.
    pub(crate) trusted: Vec<String>,
    pub(crate) retired: Vec<String>,
}

impl Names {
    fn only(name: &str) -> Self {
        Self { issuing: name.to_owned(), trusted: vec![name.to_owned()], retired: Vec::new() }
    }

    /// The one that is trusted and does not issue: the next one, or the former one.
    pub(crate) fn other(&self) -> Option<&String> {
        self.trusted.iter().find(|name| **name != self.issuing)
    }
}

impl Manifest {
    /// As `init` leaves a folder, which needs no file for it.
    fn first() -> Self {
        Self {
            format: FORMAT,
            server: Names::only("server-ca"),
            device: Names::only("device-ca"),
            gateway: BTreeMap::from([("server-ca".to_owned(), "gateway".to_owned())]),
        }
    }

    pub(crate) fn read(folder: &Path) -> Result<Self, PkiError> {
        let path = folder.join(MANIFEST);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::first()),
            Err(error) => return Err(failed(&path, "read")(error)),
        };
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|error| PkiError::Manifest { path: path.clone(), why: error.to_string() })?;
        let plain = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let lines = [&manifest.server, &manifest.device];
        let mut names = lines.iter().flat_map(|line| line.trusted.iter().chain(&line.retired));
        let whole = manifest.format == FORMAT
            && names.all(plain)
            && manifest.gateway.values().all(plain)
            && lines.iter().all(|line| line.trusted.contains(&line.issuing))
            && manifest.gateway.contains_key(&manifest.server.issuing);
        if whole {
            Ok(manifest)
        } else {
            Err(PkiError::Manifest { path, why: "it contradicts itself".into() })
        }
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<(), PkiError> {
        let path = folder.join(MANIFEST);
        let unwritable = |error: serde_json::Error| failed(&path, "written")(error.into());
        let text = serde_json::to_string_pretty(self).map_err(unwritable)?;
        replace(&path, PRIVATE, &text)
    }

    pub(crate) fn names_mut(&mut self, kind: CaKind) -> &mut Names {
        match kind {
            CaKind::Server => &mut self.server,
            CaKind::Device => &mut self.device,
        }
    }
}

/// What an authority is for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It signs, and what it signed is trusted.
    Issuing,
    /// What it signed is trusted.
    Trusted,
    /// No longer.
    Retired,
}

impl Standing {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Issuing => "issuing",
            Self::Trusted => "trusted",
            Self::Retired => "retired",
        }
    }
}

/// One authority, without its key.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    pub(crate) name: String,
    pub(crate) standing: Standing,
    pub(crate) certificate: Vec<u8>,
    pub(crate) pem: String,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) not_after: SystemTime,
}

/// The authorities of one kind, oldest first.
pub(crate) struct Line {
    pub(crate) issuing: Arc<Ca>,
    pub(crate) all: Vec<Authority>,
}

impl Line {
    pub(crate) fn trusted(&self) -> impl Iterator<Item = &Authority> {
        self.all.iter().filter(|authority| authority.standing != Standing::Retired)
    }

    pub(crate) fn retired(&self) -> impl Iterator<Item = &Authority> {
        self.all.iter().filter(|authority| authority.standing == Standing::Retired)
    }
}

/// The gateway's own certificate from one server CA.
pub(crate) struct Shown {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: Zeroizing<String>,
    pub(crate) validity: Validity,
}

/// Everything in the folder that a rotation changes, as it is now.
pub(crate) struct Authorities {
    pub(crate) server: Line,
    pub(crate) device: Line,
    /// From the issuing server CA.
    pub(crate) shown: Shown,
    /// From the others that are trusted, for devices that know no newer one.
    pub(crate) also: Vec<Shown>,
}

impl Authorities {
    /// Reads what the manifest names, and checks that it belongs together.
    pub(crate) fn load(folder: &Path) -> Result<Self, PkiError> {
        let manifest = Manifest::read(folder)?;
        let shown = |ca: &String| manifest.gateway.get(ca).map(|name| shown(folder, name)).transpose();
        let missing =
            || PkiError::Manifest { path: folder.join(MANIFEST), why: "no gateway certificate".into() };
        let mut also = Vec::new();
        for name in manifest.server.trusted.iter().rev().filter(|name| **name != manifest.server.issuing) {
            also.extend(shown(name)?);
        }
        Ok(Self {
            server: line(folder, &manifest.server)?,
            device: line(folder, &manifest.device)?,
            shown: shown(&manifest.server.issuing)?.ok_or_else(missing)?,
            also,
        })
    }

    pub(crate) fn line(&self, kind: CaKind) -> &Line {
        match kind {
            CaKind::Server => &self.server,
            CaKind::Device => &self.device,
        }
    }
}

fn shown(folder: &Path, name: &str) -> Result<Shown, PkiError> {
    let path = folder.join(format!("{name}.pem"));
    let chain_pem = read(&path)?;
    let unusable = |source: IdentityError| PkiError::Identity { path: path.clone(), source };
    let leaf = certificates_from_pem(chain_pem.as_bytes()).map_err(unusable)?.swap_remove(0);
    let validity = Validity::of(&leaf).map_err(unusable)?;
    Ok(Shown { chain_pem, key_pem: read_private(&folder.join(format!("{name}.key")))?, validity })
}

fn line(folder: &Path, names: &Names) -> Result<Line, PkiError> {
    let key = folder.join(format!("{}.key", names.issuing));
    let pem = read(&folder.join(format!("{}.pem", names.issuing)))?;
    let issuing = Ca::from_pem(&pem, &read_private(&key)?)
        .map_err(|source| PkiError::Identity { path: key.clone(), source })?;
    let mut all = Vec::new();
    for name in names.retired.iter().chain(&names.trusted) {
        let standing = match name {
            name if *name == names.issuing => Standing::Issuing,
            name if names.trusted.contains(name) => Standing::Trusted,
            _ => Standing::Retired,
        };
        all.push(authority(folder, name, standing)?);
    }
    Ok(Line { issuing: Arc::new(issuing), all })
}

fn authority(folder: &Path, name: &str, standing: Standing) -> Result<Authority, PkiError> {
    let path: PathBuf = folder.join(format!("{name}.pem"));
    let pem = read(&path)?;
    let unusable = |source: IdentityError| PkiError::Identity { path: path.clone(), source };
    let certificate = certificates_from_pem(pem.as_bytes()).map_err(unusable)?.swap_remove(0);
    let not_after = Validity::of(&certificate).map_err(unusable)?.until;
    Ok(Authority {
        name: name.to_owned(),
        standing,
        fingerprint: fingerprint(&certificate),
        certificate: certificate.to_vec(),
        pem,
        not_after,
    })
}
