//! The device's journal: what it promised or was charged, in one anchored chain.

use std::path::Path;

use tokio::sync::watch;

use crate::chain::{self, Report, Row};
use crate::{Recovery, Store, StoreError};

const DATABASE: &str = "journal.db";

/// An append-only list of records, each with a kind and a key that the caller chooses. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {
    store: Store,
}

impl Journal {
    /// Opens or creates `journal.db` and `journal.head` in a folder that exists. Blocks for a few syncs.
    pub fn open(dir: &Path) -> Result<(Self, Recovery), StoreError> {
        let (store, recovery) = Store::open_anchored(&dir.join(DATABASE), &[chain::SCHEMA])?;
        Ok((Self { store }, recovery))
    }

    /// Appends a record and returns its row number, once it is durable.
    pub async fn append(
        &self,
        kind: impl Into<String>,
        key: impl Into<String>,
        body: impl Into<Vec<u8>>,
    ) -> Result<u64, StoreError> {
        let (kind, key, body) = (kind.into(), key.into(), body.into());
        self.store.write(move |tx| chain::append(tx, &kind, &key, &body)).await.map(|head| head.seq)
    }

    /// The records of one kind, oldest first, read from disk for each call; damaged ones carry their fault.
    pub async fn rows(&self, kind: impl Into<String>) -> Result<Vec<Row>, StoreError> {
        let kind = kind.into();
        self.store.read_from_disk(move |conn| chain::rows(conn, &kind)).await
    }

    /// Checks every row, every link, and that nothing acknowledged is missing, read from disk for each call.
    pub async fn verify(&self) -> Result<Report, StoreError> {
        self.store.verify_chain().await
    }

    /// See [`Store::failure`].
    pub fn failure(&self) -> watch::Receiver<Option<StoreError>> {
        self.store.failure()
    }

    /// See [`Store::close`].
    pub async fn close(&self) {
        self.store.close().await;
    }
}
