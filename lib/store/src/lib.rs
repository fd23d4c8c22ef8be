//! Durable state: SQLite behind one writer thread with group commit, and a hash-chained journal whose head is
//! anchored in a second file.
//!
//! [`Store`] runs closures in transactions and answers after the commit is on disk. [`chain`] appends rows that
//! prove each other, for any store whose migrations include [`chain::SCHEMA`]. A store opened with
//! [`Store::open_anchored`] also keeps the chain's head beside the database, so that a database which lost
//! rows (an old copy put back, a truncated file) is noticed. [`Journal`] is such a store for a device.
//!
//! Each acknowledged write survives SIGKILL and power loss: WAL with `synchronous=FULL`, files created under a
//! temporary name, synced and renamed, folders synced.

mod anchor;
pub mod chain;
mod durable;
mod error;
mod journal;
mod readers;
mod recovery;
mod schema;
mod store;
mod writer;

pub use error::StoreError;
pub use journal::Journal;
pub use recovery::{AnchorState, Recovery, Truncation};
pub use rusqlite;
pub use store::Store;

/// A row of the device's journal, see [`chain::Row`].
pub type JournalRow = chain::Row;
