//! Opening the database: creation, pragmas, and migrations by `user_version`.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::StoreError;
use crate::durable::{at, create_private, publish, sibling};

/// How long a statement waits for a lock of another process (a backup, a curious operator).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 64;

/// Opens the one connection that writes, with every migration applied. Creates the database if there is none;
/// an existing file that is not one of ours is an error and stays untouched.
pub(crate) fn open_writer(path: &Path, migrations: &[&str]) -> Result<Connection, StoreError> {
    match fs::metadata(path) {
        Ok(found) if found.len() == 0 => {
            return Err(StoreError::Damaged { path: path.to_owned(), source: None });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, migrations)?,
        Err(error) => return Err(at(path)(error)),
    }
    open_existing(path, migrations)
}

/// Opens a connection that cannot write.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    Ok(connection)
}

/// Builds the database under a temporary name, so that under its own name it is always complete: an empty file
/// found there later was not left by us.
fn create(path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    let temporary = sibling(path, ".new");
    for leftover in ["-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(sibling(&temporary, leftover));
    }
    create_private(&temporary).map_err(at(&temporary))?;
    let connection = open_existing(&temporary, migrations)?;
    // Closing the last connection moves the write-ahead log into the file and removes it.
    connection.close().map_err(|(_, error)| StoreError::from(error))?;
    publish(&temporary, path).map_err(at(path))
}

fn open_existing(path: &Path, migrations: &[&str]) -> Result<Connection, StoreError> {
    let opened = connect(path).and_then(|mut connection| {
        migrate(&mut connection, path, migrations)?;
        Ok(connection)
    });
    opened.map_err(|error| match error {
        StoreError::Sqlite(source) if is_damage(&source) => {
            StoreError::Damaged { path: path.to_owned(), source: Some(source) }
        }
        other => other,
    })
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "cell_size_check", true)?;
    let _: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Runs the migrations that the database does not have yet, each in a transaction of its own.
fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), StoreError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::NewerSchema { path: path.to_owned(), found, known });
    }
    for (version, sql) in (1..).zip(migrations).skip_while(|(version, _)| *version <= found) {
        let mut step = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()
        };
        step().map_err(|source| {
            let source = Arc::new(source);
            if is_damage(&source) {
                StoreError::Sqlite(source)
            } else {
                StoreError::Migration { path: path.to_owned(), version, source }
            }
        })?;
    }
    Ok(())
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}
