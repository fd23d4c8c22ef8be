//! An upload on its way: bytes go to a file that nobody else knows until everything about it has been checked. It is
//! deleted when the upload is given up, and leftovers of a crash are deleted at the next start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use ulid::Ulid;

use super::AdapterError;

/// Below the adapters' folder, so that the rename into place stays within one file system.
const FOLDER: &str = ".staging";

/// A complete upload, durable under a temporary name.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
    pub(super) id: String,
    pub(super) size_bytes: u64,
}

impl Staged {
    /// Writes `chunks` to a new file below `folder`, at most `limit` bytes. `None` in the stream is a client that
    /// broke off.
    pub(super) async fn receive(
        folder: &Path,
        limit: u64,
        mut chunks: impl Stream<Item = Option<Bytes>> + Unpin,
    ) -> Result<Self, AdapterError> {
        let staging = folder.join(FOLDER);
        tokio::fs::create_dir_all(&staging).await.map_err(AdapterError::Store)?;
        let path = staging.join(Ulid::generate().to_string());
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .await
            .map_err(AdapterError::Store)?;
        // From here on dropping deletes the file.
        let mut staged = Self { path, id: String::new(), size_bytes: 0 };
        let mut hash = Sha256::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.ok_or(AdapterError::Interrupted)?;
            staged.size_bytes = staged.size_bytes.saturating_add(chunk.len() as u64);
            if staged.size_bytes > limit {
                return Err(AdapterError::TooLarge { limit });
            }
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(AdapterError::Store)?;
        }
        if staged.size_bytes == 0 {
            return Err(AdapterError::Empty);
        }
        file.flush().await.map_err(AdapterError::Store)?;
        file.sync_all().await.map_err(AdapterError::Store)?;
        staged.id = hex::encode(hash.finalize());
        Ok(staged)
    }

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
