//! Adapters that devices pushed: one folder for each account, files by their sha256 in it, beside them the parts of
//! those that are on their way. What is listed is the control plane's; a file that nobody lists is swept.

mod error;
mod part;
mod sweep;
#[cfg(test)]
mod tests;
mod turns;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

pub(crate) use error::AdapterStoreError;
use part::Part;
pub(crate) use sweep::Sweeper;
use turns::{Turn, Turns};

use crate::control_plane::{
    AdapterDigest, AdapterQuota, AdapterRecord, ControlError, ControlPlane, NewAdapter, RemovedAdapters,
    Wanted,
};

/// What a file and an account may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Largest single file, in bytes.
    pub(crate) max_bytes: u64,
    pub(crate) quota: AdapterQuota,
}

/// The adapters of all accounts. Every question names the device that asks, and sees its account only.
pub(crate) struct AdapterStore {
    folder: PathBuf,
    limits: Limits,
    plane: Arc<dyn ControlPlane>,
    turns: Turns,
}

/// What a push begins with.
pub(crate) enum Begun {
    /// The account has the whole file; it is listed under the new name, too.
    Here(AdapterRecord),
    /// Bytes are missing.
    Receiving(Box<Receiving>),
}

impl AdapterStore {
    /// Keeps the files below `folder`, which exists.
    pub(crate) fn new(folder: PathBuf, limits: Limits, plane: Arc<dyn ControlPlane>) -> Self {
        Self { folder, limits, plane, turns: Turns::default() }
    }

    /// Begins or goes on with a file. A second stream of the same device takes the place of the first, which is what is
    /// left of a connection that was lost; one of another device waits until the first has ended.
    pub(crate) async fn receive(&self, device: Uuid, new: NewAdapter) -> Result<Begun, AdapterStoreError> {
        if new.size_bytes == 0 {
            return Err(AdapterStoreError::Empty);
        }
        if new.size_bytes > self.limits.max_bytes {
            return Err(AdapterStoreError::TooLarge { size: new.size_bytes, limit: self.limits.max_bytes });
        }
        let account = self.plane.account_of(device).await?;
        let folder = self.folder.join(&account);
        make(&folder).await?;
        let turn = self.turns.take(&account, &new.sha256, device).await;
        let (turn, is_whole) = self.is_whole(turn, &new).await?;
        if is_whole {
            return Ok(Begun::Here(self.list(device, new).await?));
        }
        self.check_quota(&account, &folder, &new).await?;
        let (digest, size) = (new.sha256.clone(), new.size_bytes);
        let (turn, part) = turn.during(move || Part::open(&folder, &digest, size)).await?;
        Ok(Begun::Receiving(Box::new(Receiving { turn, part: part?, device, new })))
    }

    /// Whether the file itself is here. One that was moved into place and not listed, because the process ended between
    /// the two, is read again before it is believed; so is one of another size.
    async fn is_whole(&self, turn: Turn, new: &NewAdapter) -> Result<(Turn, bool), AdapterStoreError> {
        let path = self.file(turn.account(), &new.sha256);
        let found = match tokio::fs::metadata(&path).await {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((turn, false)),
            Err(error) => return Err(error.into()),
        };
        let is_listed = self.plane.is_adapter_listed(turn.account(), &new.sha256).await?;
        if found.len() == new.size_bytes && is_listed {
            return Ok((turn, true));
        }
        let digest = new.sha256.clone();
        let (path_to_read, expected) = (path.clone(), new.size_bytes);
        let (turn, read) = turn.during(move || part::digest_of(&path_to_read)).await?;
        let (actual, length) = read?;
        if actual == digest.as_str() {
            // A device that announces another size than its own file has will not finish; the digest decides.
            return if length == expected { Ok((turn, true)) } else { Err(AdapterStoreError::Mismatch) };
        }
        tracing::warn!(file = %path.display(), "a stored adapter is damaged; it is received anew");
        tokio::fs::remove_file(&path).await?;
        Ok((turn, false))
    }

    /// With what the account's other uploads will take when they are complete.
    async fn check_quota(
        &self,
        account: &str,
        folder: &Path,
        new: &NewAdapter,
    ) -> Result<(), AdapterStoreError> {
        let kept = self.plane.adapter_bytes(account, &new.sha256).await?;
        let (folder, digest) = (folder.to_owned(), new.sha256.clone());
        let counted = tokio::task::spawn_blocking(move || part::announced(&folder, &digest));
        let used = kept.saturating_add(counted.await.map_err(io::Error::other)??);
        if used.saturating_add(new.size_bytes) > self.limits.quota.bytes {
            let (needed, quota) = (new.size_bytes, self.limits.quota);
            return Err(ControlError::AdapterQuota { needed, used, quota }.into());
        }
        Ok(())
    }

    async fn list(&self, device: Uuid, new: NewAdapter) -> Result<AdapterRecord, AdapterStoreError> {
        let record = self.plane.record_adapter(device, new, self.limits.quota).await?;
        let NewAdapter { name, sha256, size_bytes, .. } = &record.adapter;
        tracing::info!(%device, name, %sha256, size_bytes, "adapter stored");
        Ok(record)
    }

    /// Checks a complete upload, moves it into place and lists it. A file of another digest is deleted.
    pub(crate) async fn complete(&self, receiving: Receiving) -> Result<AdapterRecord, AdapterStoreError> {
        let Receiving { turn, part, device, new } = receiving;
        let to = self.file(turn.account(), &new.sha256);
        let (turn, moved) = turn.during(move || part.publish(&to)).await?;
        moved?;
        // The turn ends after it is listed: whoever waits for it finds the file.
        let digest = new.sha256.clone();
        let listed = self.list(device, new).await;
        if let Err(AdapterStoreError::Control(ControlError::AdapterQuota { .. })) = &listed {
            // Others came first. It would only take room until it is swept.
            self.delete_unlisted(&turn, &digest).await?;
        }
        listed
    }

    /// The account's adapters.
    pub(crate) async fn all(&self, device: Uuid) -> Result<Vec<AdapterRecord>, AdapterStoreError> {
        Ok(self.plane.adapters(device).await?)
    }

    /// One of them, and its file.
    pub(crate) async fn find(
        &self,
        device: Uuid,
        wanted: &Wanted,
    ) -> Result<(AdapterRecord, PathBuf), AdapterStoreError> {
        let account = self.plane.account_of(device).await?;
        let record = self.plane.adapter(device, wanted).await?;
        let path = self.file(&account, &record.adapter.sha256);
        if !tokio::fs::try_exists(&path).await? {
            tracing::error!(file = %path.display(), "the file of a listed adapter is missing");
            return Err(ControlError::AdapterUnknown(wanted.to_string()).into());
        }
        Ok((record, path))
    }

    /// Forgets what `wanted` means, and deletes files that no name of the account means any more. Answers that run on
    /// them finish.
    pub(crate) async fn remove(
        &self,
        device: Uuid,
        wanted: &Wanted,
    ) -> Result<Vec<AdapterRecord>, AdapterStoreError> {
        let RemovedAdapters { account, records, unused } = self.plane.remove_adapters(device, wanted).await?;
        for digest in &unused {
            let turn = self.turns.take(&account, digest, Uuid::nil()).await;
            self.delete_unlisted(&turn, digest).await?;
        }
        tracing::info!(%device, wanted = %wanted, files = unused.len(), "adapter removed");
        Ok(records)
    }

    /// Deletes a file unless somebody listed it meanwhile.
    async fn delete_unlisted(&self, turn: &Turn, digest: &AdapterDigest) -> Result<(), AdapterStoreError> {
        let account = turn.account();
        if self.plane.is_adapter_listed(account, digest).await? {
            return Ok(());
        }
        match tokio::fs::remove_file(self.file(account, digest)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn file(&self, account: &str, digest: &AdapterDigest) -> PathBuf {
        self.folder.join(account).join(format!("{digest}.gguf"))
    }
}

/// A folder that only this process may use.
async fn make(folder: &Path) -> io::Result<()> {
    tokio::fs::DirBuilder::new().mode(0o700).recursive(true).create(folder).await
}

/// A file that is being received. Dropping it keeps the part.
pub(crate) struct Receiving {
    turn: Turn,
    part: Part,
    device: Uuid,
    new: NewAdapter,
}

impl Receiving {
    /// Bytes that are here.
    pub(crate) fn have(&self) -> u64 {
        self.part.length()
    }

    /// Whether all are.
    pub(crate) fn is_complete(&self) -> bool {
        self.have() == self.new.size_bytes
    }

    /// Resolves when another stream of the same device takes over.
    pub(crate) fn superseded(&self) -> impl Future<Output = ()> + Send + 'static {
        self.turn.left()
    }

    /// Adds the bytes that follow those that are here.
    pub(crate) async fn append(self, offset: u64, data: bytes::Bytes) -> Result<Self, AdapterStoreError> {
        let Self { turn, mut part, device, new } = self;
        let missing = new.size_bytes.saturating_sub(part.length());
        if offset != part.length() || data.is_empty() || data.len() as u64 > missing {
            return Err(AdapterStoreError::Gap);
        }
        let (turn, part) = turn.during(move || part.append(&data).map(|()| part)).await?;
        Ok(Self { turn, part: part?, device, new })
    }
}
