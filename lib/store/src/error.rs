//! What can go wrong with a store. One failed commit answers many callers, so the error is cheap to clone.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ErrorCode;

/// Why a store could not be opened, read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or its folder cannot be created, opened or synced.
    #[error("cannot access {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The database cannot be trusted. It is never recreated by itself.
    #[error(
        "{} is damaged or not a database; restore it from a backup, or move it and its -wal and -shm files aside to start anew",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What SQLite says; nothing if the file is empty.
        #[source]
        source: Option<Arc<rusqlite::Error>>,
    },
    /// Written by a newer version of this program.
    #[error(
        "{} has schema version {found}, but this program knows only up to {known}; install the newer version again",
        path.display()
    )]
    NewerSchema {
        /// Which file.
        path: PathBuf,
        /// The version it has.
        found: u32,
        /// The newest version we know.
        known: u32,
    },
    /// A migration failed; the database is as it was before that migration.
    #[error("cannot bring {} to schema version {version}", path.display())]
    Migration {
        /// Which file.
        path: PathBuf,
        /// The version that could not be reached.
        version: u32,
        /// Why.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// Another process, or another handle in this one, has the store open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The locked file.
        path: PathBuf,
    },
    /// No space left. Nothing was stored; writes work again once there is space.
    #[error("the disk is full; free some space and try again")]
    DiskFull(#[source] Arc<rusqlite::Error>),
    /// Any other error of the database.
    #[error("database error: {0}")]
    Sqlite(#[source] Arc<rusqlite::Error>),
    /// SQLite undid the whole group of writes; nothing of it was stored.
    #[error("the database rolled back; nothing was stored")]
    RolledBack,
    /// The rows are committed, but the head could not be anchored.
    #[error("cannot anchor the journal's head in {}", path.display())]
    Anchor {
        /// The anchor file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The chain's head row is missing or unreadable.
    #[error("the head of the row chain cannot be read; restore the database from a backup")]
    ChainHead,
    /// After an error of the disk nothing more is written until the store is opened again.
    #[error("the store takes no writes since a disk error; open it again once the disk is well")]
    Failed(#[source] Arc<StoreError>),
    /// The closure panicked. What it had written was rolled back.
    #[error("a database operation panicked: {0}")]
    Panicked(String),
    /// The store was closed before the operation ran.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether further writes could do harm: after a failed sync nobody knows what reached the disk.
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::Anchor { .. } | Self::ChainHead => true,
            Self::Sqlite(source) => matches!(
                source.sqlite_error_code(),
                Some(
                    ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::CannotOpen
                        | ErrorCode::ReadOnly
                )
            ),
            _ => false,
        }
    }

    pub(crate) fn from_panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self::Panicked(text.unwrap_or_else(|| "no message".to_owned()))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(source: rusqlite::Error) -> Self {
        let full = source.sqlite_error_code() == Some(ErrorCode::DiskFull);
        if full { Self::DiskFull(Arc::new(source)) } else { Self::Sqlite(Arc::new(source)) }
    }
}
