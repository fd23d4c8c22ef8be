//! The index of the model files: one JSON file, replaced as a whole. Model files that it does not know were never
//! acknowledged and are deleted at the start; parts of interrupted pulls are kept, and deleted when nobody came back
//! for them.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::digest::is_sha256;
use super::{Model, ModelName, Snapshot};
use crate::durable;

const FILE: &str = "index.json";
const DAMAGED: &str = "index.json.damaged-";
const SCHEMA: &str = "synesis.models/1";
/// Below the models' folder, so that the rename into place stays within one file system.
const PARTIAL: &str = "partial";
/// Age from which a part is not resumed any more.
const PART_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The models of one folder, in memory and on disk.
#[derive(Debug)]
pub struct Index {
    folder: PathBuf,
    snapshot: Snapshot,
}

impl Index {
    /// Reads the index of `folder` and tidies up after a crash. An index that cannot be understood is kept under
    /// another name, and an empty one takes its place: the configured model answers, and files can be pulled again.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder.join(PARTIAL))?;
        let mut index = Self { folder: folder.to_owned(), snapshot: Snapshot::default() };
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

    /// The file with this content.
    pub fn file(&self, sha256: &str) -> PathBuf {
        self.folder.join(format!("{sha256}.gguf"))
    }

    /// Replaces what it says, durably; on an error the old one stays. With `arrived`, that file gets its final name
    /// first: either both happen or neither is known.
    ///
    /// # Errors
    /// The file system refused.
    pub(super) async fn replace(
        &mut self,
        next: Snapshot,
        arrived: Option<(PathBuf, PathBuf)>,
    ) -> io::Result<()> {
        let (folder, stored) = (self.folder.clone(), Stored::from(&next));
        // Not cut in the middle when the caller leaves.
        let write = tokio::task::spawn_blocking(move || {
            if let Some((from, to)) = arrived {
                fs::File::open(&from)?.sync_all()?;
                fs::rename(from, to)?;
            }
            write(&folder, &stored)
        });
        write.await.map_err(io::Error::other)??;
        self.snapshot = next;
        Ok(())
    }

    fn set_aside(&self, error: &serde_json::Error) -> io::Result<()> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let kept = self.folder.join(format!("{DAMAGED}{seconds}"));
        fs::rename(self.folder.join(FILE), &kept)?;
        tracing::error!(%error, kept = %kept.display(), "the index of the models cannot be read; pull them again");
        Ok(())
    }

    /// Deletes model files that the index does not know, a half-written index, and parts that nobody came back for.
    /// Beside a damaged index every model file is kept: its owner may still want it.
    fn sweep(&self) -> io::Result<()> {
        let paths = list(&self.folder)?;
        let damaged = paths.iter().any(|path| name_of(path).starts_with(DAMAGED));
        let known: BTreeSet<PathBuf> =
            self.snapshot.models.iter().map(|model| self.file(&model.sha256)).collect();
        let unfinished = durable::staged(&self.folder.join(FILE));
        for path in paths {
            let model = path.extension().is_some_and(|extension| extension == "gguf");
            if (model && !damaged && !known.contains(&path)) || path == unfinished {
                tracing::info!(file = %path.display(), "deleted what an interrupted pull left behind");
                fs::remove_file(path)?;
            }
        }
        for path in list(&self.folder.join(PARTIAL))? {
            let modified = fs::metadata(&path).and_then(|found| found.modified());
            let age = modified.ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > PART_KEPT) {
                tracing::info!(file = %path.display(), "deleted a part of a pull that nobody came back for");
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Where parts are kept below a models' folder.
pub(super) fn partial(folder: &Path) -> PathBuf {
    folder.join(PARTIAL)
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn write(folder: &Path, stored: &Stored) -> io::Result<()> {
    durable::replace(&folder.join(FILE), &serde_json::to_vec_pretty(stored)?)
}

fn parse(bytes: &[u8]) -> serde_json::Result<Snapshot> {
    use serde::de::Error as _;
    let stored: Stored = serde_json::from_slice(bytes)?;
    if stored.schema != SCHEMA {
        return Err(serde_json::Error::custom(format!("schema \"{}\" is not \"{SCHEMA}\"", stored.schema)));
    }
    let mut snapshot = Snapshot { models: Vec::new(), selected: stored.selected };
    for row in stored.models {
        snapshot.models.push(row.into_model()?);
    }
    if snapshot.selected.as_ref().is_some_and(|name| snapshot.find(name).is_none()) {
        return Err(serde_json::Error::custom("the selected model is not in the list"));
    }
    Ok(snapshot)
}

/// The file's shape.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    schema: String,
    selected: Option<ModelName>,
    models: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: ModelName,
    sha256: String,
    size_bytes: u64,
    source: String,
    pulled_at: String,
    architecture: String,
    trained_context_tokens: u32,
    checked: bool,
}

impl From<&Snapshot> for Stored {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            selected: snapshot.selected.clone(),
            models: snapshot.models.iter().map(Row::from).collect(),
        }
    }
}

impl From<&Model> for Row {
    fn from(model: &Model) -> Self {
        Self {
            name: model.name.clone(),
            sha256: model.sha256.clone(),
            size_bytes: model.size_bytes,
            source: model.source.clone(),
            pulled_at: OffsetDateTime::from(model.pulled_at).format(&Rfc3339).unwrap_or_default(),
            architecture: model.architecture.clone(),
            trained_context_tokens: model.trained_context_tokens,
            checked: model.checked,
        }
    }
}

impl Row {
    fn into_model(self) -> serde_json::Result<Model> {
        use serde::de::Error as _;
        // It becomes a file name.
        if !is_sha256(&self.sha256) {
            return Err(serde_json::Error::custom("sha256 is not 64 hex digits"));
        }
        let pulled_at =
            OffsetDateTime::parse(&self.pulled_at, &Rfc3339).map_err(serde_json::Error::custom)?.into();
        Ok(Model {
            name: self.name,
            sha256: self.sha256,
            size_bytes: self.size_bytes,
            source: self.source,
            pulled_at,
            architecture: self.architecture,
            trained_context_tokens: self.trained_context_tokens,
            checked: self.checked,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, digit: &str) -> Model {
        Model {
            name: ModelName::try_from(name.to_owned()).unwrap(),
            sha256: digit.repeat(64),
            size_bytes: 7,
            source: "hf:a/b/c.gguf@d".to_owned(),
            pulled_at: UNIX_EPOCH + Duration::from_secs(1_000_000),
            architecture: "llama".to_owned(),
            trained_context_tokens: 2048,
            checked: true,
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read_again_with_the_file_that_arrived() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = Index::open(folder.path()).unwrap();
        let next = Snapshot { models: vec![model("a", "1")], selected: None };
        let part = partial(folder.path()).join("x.part");
        fs::write(&part, "weights").unwrap();
        let to = index.file(&"1".repeat(64));
        index.replace(next.clone(), Some((part, to.clone()))).await.unwrap();
        let again = Index::open(folder.path()).unwrap();
        assert_eq!(again.snapshot(), &next);
        assert_eq!(fs::read(to).unwrap(), b"weights");
        assert_eq!(next.bytes(), 7);
    }

    #[tokio::test]
    async fn unknown_model_files_and_half_an_index_are_swept_and_parts_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        Index::open(folder.path()).unwrap();
        let orphan = folder.path().join(format!("{}.gguf", "2".repeat(64)));
        let half = folder.path().join("index.json.new");
        let part = partial(folder.path()).join("x.part");
        for path in [&orphan, &half, &part] {
            fs::write(path, "x").unwrap();
        }
        Index::open(folder.path()).unwrap();
        assert!(!orphan.exists() && !half.exists() && part.exists());
    }

    #[test]
    fn a_damaged_index_is_set_aside_and_its_files_stay() {
        for text in [
            "{",
            "{\"schema\":\"other/1\",\"selected\":null,\"models\":[]}",
            "{\"schema\":\"synesis.models/1\",\"selected\":\"gone\",\"models\":[]}",
            "{\"schema\":\"synesis.models/1\",\"selected\":null,\"models\":[],\"more\":1}",
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(FILE), text).unwrap();
            let file = folder.path().join(format!("{}.gguf", "3".repeat(64)));
            fs::write(&file, "weights").unwrap();
            let index = Index::open(folder.path()).unwrap();
            assert_eq!(index.snapshot(), &Snapshot::default());
            assert!(file.exists(), "its owner may still want it");
            let kept = list(folder.path()).unwrap();
            assert!(kept.iter().any(|path| name_of(path).starts_with(DAMAGED)), "{text}");
        }
    }
}
