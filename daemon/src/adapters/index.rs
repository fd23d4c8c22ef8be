//! The index of the adapters on disk: one JSON file, replaced as a whole, so that a crash leaves the old one or the
//! new one. Files that no index knows were never acknowledged, and are deleted at the start.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Adapter, AdapterName, Snapshot, staging};

const FILE: &str = "index.json";
const NEW: &str = "index.json.new";
const DAMAGED: &str = "index.json.damaged-";
const SCHEMA: &str = "synesis.adapters/1";

/// The adapters of one folder, in memory and on disk.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    snapshot: Snapshot,
    damaged: Option<PathBuf>,
}

impl Index {
    /// Reads the index of `folder` and tidies up after a crash. An index that cannot be understood is kept under
    /// another name, and an empty one takes its place: local answers matter more than the list.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        staging::sweep(folder)?;
        let mut index = Self { folder: folder.to_owned(), snapshot: Snapshot::default(), damaged: None };
        match fs::read(folder.join(FILE)) {
            Ok(bytes) => match parse(&bytes) {
                Ok(snapshot) => index.snapshot = snapshot,
                Err(error) => index.set_aside(&error)?,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        index.sweep()?;
        Ok(index)
    }

    /// What it says.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Where an index that could not be understood was put at the start.
    pub fn damaged(&self) -> Option<&Path> {
        self.damaged.as_deref()
    }

    /// The file of the adapter with this id.
    pub fn file(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.gguf"))
    }

    /// Replaces what it says, durably; on an error the old one stays. Also makes files durable that were renamed into
    /// the folder before.
    ///
    /// # Errors
    /// The file system refused.
    pub async fn replace(&mut self, snapshot: Snapshot) -> io::Result<()> {
        let (folder, stored) = (self.folder.clone(), Stored::from(&snapshot));
        tokio::task::spawn_blocking(move || write(&folder, &stored)).await.map_err(io::Error::other)??;
        self.snapshot = snapshot;
        Ok(())
    }

    fn set_aside(&mut self, error: &serde_json::Error) -> io::Result<()> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let kept = self.folder.join(format!("{DAMAGED}{seconds}"));
        fs::rename(self.folder.join(FILE), &kept)?;
        tracing::error!(%error, kept = %kept.display(), "the index of the adapters cannot be read; import them again");
        // Generations are in receipts and must never repeat. The old count is lost, and the clock is ahead of any count.
        self.snapshot.generation = seconds;
        self.damaged = Some(kept);
        write(&self.folder, &Stored::from(&self.snapshot))
    }

    /// Deletes adapter files that the index does not know, and a half-written index. Beside a damaged index every file
    /// is kept: its owner may still want it.
    fn sweep(&self) -> io::Result<()> {
        let names = fs::read_dir(&self.folder)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        if names.iter().any(|name| name.to_string_lossy().starts_with(DAMAGED)) {
            return Ok(());
        }
        let known: BTreeSet<PathBuf> =
            self.snapshot.adapters.iter().map(|adapter| self.file(&adapter.id)).collect();
        for name in names {
            let path = self.folder.join(name);
            let orphan =
                path.extension().is_some_and(|extension| extension == "gguf") && !known.contains(&path);
            if orphan || path.ends_with(NEW) {
                tracing::info!(file = %path.display(), "deleted what an interrupted import left behind");
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn write(folder: &Path, stored: &Stored) -> io::Result<()> {
    let new = folder.join(NEW);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(stored)?)?;
    file.sync_all()?;
    fs::rename(&new, folder.join(FILE))?;
    File::open(folder)?.sync_all()
}

fn parse(bytes: &[u8]) -> serde_json::Result<Snapshot> {
    use serde::de::Error as _;
    let stored: Stored = serde_json::from_slice(bytes)?;
    if stored.schema != SCHEMA {
        return Err(serde_json::Error::custom(format!("schema \"{}\" is not \"{SCHEMA}\"", stored.schema)));
    }
    let mut snapshot =
        Snapshot { adapters: Vec::new(), generation: stored.generation, active: stored.active };
    for row in stored.adapters {
        snapshot.adapters.push(row.into_adapter()?);
    }
    if snapshot.active.is_some() && snapshot.active().is_none() {
        return Err(serde_json::Error::custom("the active adapter is not in the list"));
    }
    Ok(snapshot)
}

/// The file's shape.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    schema: String,
    generation: u64,
    active: Option<AdapterName>,
    adapters: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: AdapterName,
    sha256: String,
    size_bytes: u64,
    rank: u32,
    alpha: f32,
    architecture: String,
    targets: Vec<String>,
    imported_at: String,
}

impl From<&Snapshot> for Stored {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            generation: snapshot.generation,
            active: snapshot.active.clone(),
            adapters: snapshot.adapters.iter().map(Row::from).collect(),
        }
    }
}

impl From<&Adapter> for Row {
    fn from(adapter: &Adapter) -> Self {
        Self {
            name: adapter.name.clone(),
            sha256: adapter.id.clone(),
            size_bytes: adapter.size_bytes,
            rank: adapter.rank,
            alpha: adapter.alpha,
            architecture: adapter.architecture.clone(),
            targets: adapter.targets.clone(),
            imported_at: OffsetDateTime::from(adapter.imported_at).format(&Rfc3339).unwrap_or_default(),
        }
    }
}

impl Row {
    fn into_adapter(self) -> serde_json::Result<Adapter> {
        use serde::de::Error as _;
        // The id becomes a file name.
        if self.sha256.len() != 64 || !self.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(serde_json::Error::custom("sha256 is not 64 hex digits"));
        }
        let imported_at =
            OffsetDateTime::parse(&self.imported_at, &Rfc3339).map_err(serde_json::Error::custom)?.into();
        Ok(Adapter {
            name: self.name,
            id: self.sha256,
            size_bytes: self.size_bytes,
            rank: self.rank,
            alpha: self.alpha,
            architecture: self.architecture,
            targets: self.targets,
            imported_at,
        })
    }
}
