//! A file on its way: its bytes so far, and beside them what is needed to go on where it stopped. Nobody lists it.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

use super::digest;
use super::index::partial;
use crate::durable;

/// What the source said of the file, beside the bytes that came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Notes {
    /// Where it comes from, in words.
    pub(super) source: String,
    /// A strong ETag, or the time of the last change: the rest has to belong to the same file.
    pub(super) validator: Option<String>,
    /// Size of the whole file, in bytes.
    pub(super) total: Option<u64>,
}

/// The bytes of one source.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    notes_path: PathBuf,
    file: File,
    length: u64,
    pub(super) notes: Notes,
}

impl Part {
    /// What there is of `source` below a models' folder; nothing yet, as a rule. `identity` tells sources apart.
    pub(super) async fn open(folder: &Path, identity: &str, source: &str) -> io::Result<Self> {
        let key: String = digest::of_text(identity).chars().take(32).collect();
        let path = partial(folder).join(format!("{key}.part"));
        let notes_path = partial(folder).join(format!("{key}.json"));
        let notes = match tokio::fs::read(&notes_path).await {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(&path).await?;
        let length = file.metadata().await?.len();
        let mut part = Self { path, notes_path, file, length, notes: notes.clone().unwrap_or_default() };
        // Bytes of which nobody knows anything.
        if notes.is_none() && length > 0 {
            part.restart().await?;
        }
        part.notes.source = source.to_owned();
        Ok(part)
    }

    /// Bytes there are.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Where they are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down what the source said, before bytes that depend on it.
    pub(super) async fn note(&mut self, validator: Option<String>, total: Option<u64>) -> io::Result<()> {
        self.notes.validator = validator;
        self.notes.total = total;
        let (path, bytes) = (self.notes_path.clone(), serde_json::to_vec(&self.notes)?);
        let written = tokio::task::spawn_blocking(move || durable::replace(&path, &bytes));
        written.await.map_err(io::Error::other)?
    }

    /// Adds bytes at the end.
    pub(super) async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await?;
        self.length = self.length.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Begins anew.
    pub(super) async fn restart(&mut self) -> io::Result<()> {
        self.file.flush().await?;
        self.file.set_len(0).await?;
        self.length = 0;
        Ok(())
    }

    /// All bytes are in the file, not yet on the disk.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.file.flush().await
    }

    /// The sha256 of the bytes so far.
    pub(super) async fn digest(&self) -> io::Result<String> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || digest::of_file(&path)).await.map_err(io::Error::other)?
    }

    /// The bytes have their final name now.
    pub(super) async fn forget(self) {
        let _ = tokio::fs::remove_file(&self.notes_path).await;
    }

    /// The bytes are of no use.
    pub(super) async fn delete(self) {
        for path in [&self.path, &self.notes_path] {
            if let Err(error) = tokio::fs::remove_file(path).await {
                tracing::debug!(%error, file = %path.display(), "a part was not deleted");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Index;

    async fn part(folder: &Path, identity: &str) -> Part {
        Part::open(folder, identity, "somewhere").await.unwrap()
    }

    #[tokio::test]
    async fn a_part_goes_on_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        Index::open(folder.path()).unwrap();
        let mut first = part(folder.path(), "one").await;
        first.note(Some("\"v1\"".to_owned()), Some(6)).await.unwrap();
        first.append(b"abc").await.unwrap();
        first.flush().await.unwrap();
        drop(first);
        let mut again = part(folder.path(), "one").await;
        assert_eq!((again.length(), again.notes.total), (3, Some(6)));
        assert_eq!(again.notes.validator.as_deref(), Some("\"v1\""));
        again.append(b"def").await.unwrap();
        again.flush().await.unwrap();
        assert_eq!(again.digest().await.unwrap(), digest::of_text("abcdef"));
        assert_eq!(part(folder.path(), "two").await.length(), 0, "another source has its own");
    }

    #[tokio::test]
    async fn bytes_without_notes_are_not_trusted_and_what_is_deleted_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        Index::open(folder.path()).unwrap();
        let mut first = part(folder.path(), "one").await;
        first.append(b"abc").await.unwrap();
        first.flush().await.unwrap();
        drop(first);
        let again = part(folder.path(), "one").await;
        assert_eq!(again.length(), 0);
        again.delete().await;
        assert_eq!(std::fs::read_dir(partial(folder.path())).unwrap().count(), 0);
    }
}
