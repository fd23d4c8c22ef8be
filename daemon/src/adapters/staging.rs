//! A file on its way into the store: bytes go to a file that nobody else knows until everything about it has been
//! checked. It is deleted when it is given up, and leftovers of a crash are deleted at the next start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use ulid::Ulid;

use super::AdapterError;

/// Below the adapters' folder, so that the rename into place stays within one file system.
const FOLDER: &str = ".staging";

/// What a file may be, for the errors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// What errors call it.
    pub(super) what: &'static str,
    /// Most bytes.
    pub(super) bytes: u64,
}

/// A file that is being written, under a temporary name.
#[derive(Debug)]
pub(super) struct Draft {
    staged: Staged,
    file: File,
    hash: Sha256,
    limit: Limit,
}

/// A complete file under a temporary name.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
    /// sha256, hex.
    pub(super) id: String,
    pub(super) size_bytes: u64,
}

/// Whether a file has to outlive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// It becomes part of the store.
    Durably,
    /// It is read once and deleted.
    ForNow,
}

impl Draft {
    /// A new, empty file below `folder`.
    pub(super) async fn begin(folder: &Path, limit: Limit) -> Result<Self, AdapterError> {
        let staging = folder.join(FOLDER);
        tokio::fs::create_dir_all(&staging).await.map_err(AdapterError::Store)?;
        let path = staging.join(Ulid::generate().to_string());
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path).await;
        let file = file.map_err(AdapterError::Store)?;
        // From here on dropping deletes the file.
        let staged = Staged { path, id: String::new(), size_bytes: 0 };
        Ok(Self { staged, file, hash: Sha256::new(), limit })
    }

    /// Appends.
    ///
    /// # Errors
    /// The file becomes too large, or the disk is full.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), AdapterError> {
        let Limit { what, bytes: limit } = self.limit;
        self.staged.size_bytes = self.staged.size_bytes.saturating_add(bytes.len() as u64);
        if self.staged.size_bytes > limit {
            return Err(AdapterError::TooLarge { what, limit });
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).await.map_err(AdapterError::Store)
    }

    /// The complete file.
    ///
    /// # Errors
    /// It has no bytes, or the disk is full.
    pub(super) async fn finish(mut self, keep: Keep) -> Result<Staged, AdapterError> {
        if self.staged.size_bytes == 0 {
            return Err(AdapterError::Empty(self.limit.what));
        }
        self.file.flush().await.map_err(AdapterError::Store)?;
        if keep == Keep::Durably {
            self.file.sync_all().await.map_err(AdapterError::Store)?;
        }
        self.staged.id = hex::encode(self.hash.finalize());
        Ok(self.staged)
    }
}

impl Staged {
    /// Where it is, for the checks.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to its final name. Durable once the folder is synced, which writing the index does.
    pub(super) async fn publish(self, to: &Path) -> io::Result<()> {
        tokio::fs::rename(&self.path, to).await
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Renamed away when published.
        let _ = fs::remove_file(&self.path);
    }
}

/// Deletes what an earlier process left behind.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder.join(FOLDER)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
