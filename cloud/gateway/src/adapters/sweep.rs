//! Tidies up: parts that nobody goes on with, and files that a crash left unlisted.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::time::{MissedTickBehavior, interval};

use super::{AdapterStore, AdapterStoreError};
use crate::control_plane::AdapterDigest;
use crate::failure::chain;

/// What has not been touched for so long is given up.
pub(super) const EXPIRY: Duration = Duration::from_secs(24 * 3600);
const EVERY: Duration = Duration::from_secs(3600);

/// Sweeps at the start and every hour.
pub(crate) struct Sweeper(pub(crate) Arc<AdapterStore>);

#[async_trait]
impl Subsystem for Sweeper {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let stopping = cx.stopping();
        let mut times = interval(EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        cx.ready();
        loop {
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                _ = times.tick() => {}
            }
            if let Err(error) = self.0.sweep(SystemTime::now()).await {
                tracing::warn!(error = chain(&error), "adapters could not be tidied up; it is tried again");
            }
        }
    }
}

/// A file that has not been touched for a while.
struct Stale {
    account: String,
    digest: AdapterDigest,
    path: PathBuf,
}

impl AdapterStore {
    /// Deletes what is out of date at `now`. What is in use just now is not.
    pub(super) async fn sweep(&self, now: SystemTime) -> Result<(), AdapterStoreError> {
        let folder = self.folder.clone();
        let looked = tokio::task::spawn_blocking(move || stale(&folder, now));
        for Stale { account, digest, path } in looked.await.map_err(io::Error::other)?? {
            let Some(_turn) = self.turns.try_take(&account, &digest) else { continue };
            let whole = path.extension().is_some_and(|extension| extension == "gguf");
            if whole && self.plane.is_adapter_listed(&account, &digest).await? {
                continue;
            }
            tracing::info!(file = %path.display(), "deleted what an interrupted push left behind");
            match tokio::fs::remove_file(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn stale(folder: &std::path::Path, now: SystemTime) -> io::Result<Vec<Stale>> {
    let mut found = Vec::new();
    for account in fs::read_dir(folder)? {
        let account = account?;
        if !account.file_type()?.is_dir() {
            continue;
        }
        for entry in fs::read_dir(account.path())? {
            let entry = entry?;
            let touched = match entry.metadata().and_then(|found| found.modified()) {
                Ok(touched) => touched,
                // Moved into place or deleted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = name.split('.').next().and_then(AdapterDigest::parse);
            let old = now.duration_since(touched).is_ok_and(|age| age > EXPIRY);
            if let (true, Some(digest)) = (old, digest) {
                let account = account.file_name().to_string_lossy().into_owned();
                found.push(Stale { account, digest, path: entry.path() });
            }
        }
    }
    Ok(found)
}
