//! The index of the adapters on disk: one JSON file, replaced as a whole, so that a crash leaves the old one or the
//! new one. Files that no index knows were never acknowledged, and are deleted at the start.

mod upgrade;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Adapter, AdapterName, Origin, Snapshot, staging};
use crate::durable;

const FILE: &str = "index.json";
const DAMAGED: &str = "index.json.damaged-";
const SCHEMA: &str = "synesis.adapters/2";

/// When the file with an id was last used.
pub(super) type Uses = BTreeMap<String, SystemTime>;

/// The adapters of one folder, in memory and on disk.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    snapshot: Snapshot,
    uses: Uses,
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
        let (folder_of_index, snapshot) = (folder.to_owned(), Snapshot::default());
        let mut index = Self { folder: folder_of_index, snapshot, uses: Uses::new(), damaged: None };
        match fs::read(folder.join(FILE)) {
            Ok(bytes) => match parse(&bytes) {
                Ok((snapshot, uses)) => (index.snapshot, index.uses) = (snapshot, uses),
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

    /// When each file was last used, as it was when the index was last written.
    pub(super) fn uses(&self) -> &Uses {
        &self.uses
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
    pub(super) async fn replace(&mut self, snapshot: Snapshot, uses: Uses) -> io::Result<()> {
        let (folder, stored) = (self.folder.clone(), Stored::new(&snapshot, &uses));
        tokio::task::spawn_blocking(move || write(&folder, &stored)).await.map_err(io::Error::other)??;
        (self.snapshot, self.uses) = (snapshot, uses);
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
        write(&self.folder, &Stored::new(&self.snapshot, &self.uses))
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
            if orphan || path == durable::staged(&self.folder.join(FILE)) {
                tracing::info!(file = %path.display(), "deleted what an interrupted import left behind");
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn write(folder: &Path, stored: &Stored) -> io::Result<()> {
    durable::replace(&folder.join(FILE), &serde_json::to_vec_pretty(stored)?)
}

fn parse(bytes: &[u8]) -> serde_json::Result<(Snapshot, Uses)> {
    use serde::de::Error as _;
    let stored: Stored = serde_json::from_value(upgrade::to_newest(serde_json::from_slice(bytes)?))?;
    if stored.schema != SCHEMA {
        return Err(serde_json::Error::custom(format!("schema \"{}\" is not \"{SCHEMA}\"", stored.schema)));
    }
    let mut snapshot =
        Snapshot { adapters: Vec::new(), generation: stored.generation, active: stored.active };
    let mut uses = Uses::new();
    for row in stored.adapters {
        if let Some(text) = &row.last_used_at {
            uses.insert(row.sha256.clone(), instant(text)?);
        }
        snapshot.adapters.push(row.into_adapter()?);
    }
    if snapshot.active.is_some() && snapshot.active().is_none() {
        return Err(serde_json::Error::custom("the active adapter is not in the list"));
    }
    Ok((snapshot, uses))
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
    origin: Origin,
    last_used_at: Option<String>,
}

impl Stored {
    fn new(snapshot: &Snapshot, uses: &Uses) -> Self {
        let row = |adapter: &Adapter| Row::new(adapter, uses.get(&adapter.id).copied());
        Self {
            schema: SCHEMA.to_owned(),
            generation: snapshot.generation,
            active: snapshot.active.clone(),
            adapters: snapshot.adapters.iter().map(row).collect(),
        }
    }
}

impl Row {
    fn new(adapter: &Adapter, last_used: Option<SystemTime>) -> Self {
        Self {
            name: adapter.name.clone(),
            sha256: adapter.id.clone(),
            size_bytes: adapter.size_bytes,
            rank: adapter.rank,
            alpha: adapter.alpha,
            architecture: adapter.architecture.clone(),
            targets: adapter.targets.clone(),
            imported_at: text(adapter.imported_at),
            origin: adapter.origin.clone(),
            last_used_at: last_used.map(text),
        }
    }

    fn into_adapter(self) -> serde_json::Result<Adapter> {
        use serde::de::Error as _;
        // The id becomes a file name.
        if self.sha256.len() != 64 || !self.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(serde_json::Error::custom("sha256 is not 64 hex digits"));
        }
        Ok(Adapter {
            imported_at: instant(&self.imported_at)?,
            name: self.name,
            id: self.sha256,
            size_bytes: self.size_bytes,
            rank: self.rank,
            alpha: self.alpha,
            architecture: self.architecture,
            targets: self.targets,
            origin: self.origin,
        })
    }
}

fn text(instant: SystemTime) -> String {
    OffsetDateTime::from(instant).format(&Rfc3339).unwrap_or_default()
}

fn instant(text: &str) -> serde_json::Result<SystemTime> {
    use serde::de::Error as _;
    Ok(OffsetDateTime::parse(text, &Rfc3339).map_err(serde_json::Error::custom)?.into())
}
