//! Read-only connections, kept for the next read.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use crate::{StoreError, schema};

/// More than this many idle connections are closed.
const IDLE: usize = 4;

pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// Whether a read may use a connection whose page cache has seen earlier reads.
#[derive(Clone, Copy)]
pub(crate) enum Freshness {
    Pooled,
    FromDisk,
}

impl Readers {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::default() }
    }

    /// Runs a closure over one snapshot of what is committed. Blocks.
    pub(crate) fn run<T, E: From<StoreError>>(
        &self,
        freshness: Freshness,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let pooled = match freshness {
            Freshness::Pooled => self.lock().pop(),
            Freshness::FromDisk => None,
        };
        let connection = pooled.map_or_else(|| schema::open_reader(&self.path), Ok)?;
        let snapshot = connection.unchecked_transaction().map_err(StoreError::from)?;
        let result = work(&snapshot);
        let ended = snapshot.finish();
        if ended.is_ok() && matches!(freshness, Freshness::Pooled) {
            let mut idle = self.lock();
            if idle.len() < IDLE {
                idle.push(connection);
            }
        }
        result
    }

    /// Closes the idle connections.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
