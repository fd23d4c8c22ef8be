//! Writes share commits, fail alone, survive panics and full disks; reads see what is committed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail loudly too"
)]

mod fixture;

use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;

use fixture::{NOTES, add, all, folder, notes};
use rusqlite::{Connection, Transaction};
use synesis_store::{Store, StoreError};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Starts a write for each text, and lets every one of them reach the queue.
async fn spawn_all(store: &Store, texts: impl Iterator<Item = String>) -> JoinSet<Result<(), StoreError>> {
    let mut writes = JoinSet::new();
    for text in texts {
        let store = store.clone();
        writes.spawn(async move { add(&store, &text).await });
    }
    // On a current-thread runtime each task runs up to its wait for the answer.
    tokio::task::yield_now().await;
    writes
}

/// Keeps the writer busy until the sender is used, so that what is queued meanwhile becomes one group.
async fn block(store: &Store) -> (mpsc::Sender<()>, JoinSet<Result<(), StoreError>>) {
    let (release, blocked) = mpsc::channel::<()>();
    let (started, running) = oneshot::channel();
    let store = store.clone();
    let mut blocker = JoinSet::new();
    blocker.spawn(async move {
        let wait = move |_: &Transaction<'_>| {
            let _ = started.send(());
            let _ = blocked.recv();
            Ok(())
        };
        store.write(wait).await
    });
    running.await.unwrap();
    (release, blocker)
}

#[tokio::test]
async fn a_write_is_read_back_and_survives_reopening() {
    let folder = folder();
    let store = notes(&folder);
    add(&store, "one").await.unwrap();
    assert_eq!(all(&store).await, ["one"]);
    store.close().await;
    assert_eq!(all(&notes(&folder)).await, ["one"]);
}

#[tokio::test]
async fn queued_writes_share_one_commit() {
    let folder = folder();
    let store = notes(&folder);
    let (release, blocker) = block(&store).await;
    let mut writes = spawn_all(&store, (0..50).map(|n| n.to_string())).await;
    let path = folder.path().join("notes.db");
    let last = store.clone();
    writes.spawn(async move {
        last.write(move |tx| {
            let inside: i64 = tx.query_row("SELECT count(*) FROM notes", [], |row| row.get(0))?;
            let committed: i64 =
                Connection::open(&path)?.query_row("SELECT count(*) FROM notes", [], |row| row.get(0))?;
            assert_eq!((inside, committed), (50, 0), "all of the group ran, none of it is committed");
            Ok(())
        })
        .await
    });
    tokio::task::yield_now().await;
    release.send(()).unwrap();
    assert!(writes.join_all().await.iter().all(Result::is_ok));
    assert!(blocker.join_all().await.iter().all(Result::is_ok));
    assert_eq!(all(&store).await.len(), 50);
}

#[tokio::test]
async fn a_failing_write_rolls_back_alone() {
    let folder = folder();
    let store = notes(&folder);
    let (release, _blocker) = block(&store).await;
    let mut writes = spawn_all(&store, ["a", "b"].map(str::to_owned).into_iter()).await;
    let failing = store.clone();
    writes.spawn(async move {
        failing
            .write(|tx| {
                tx.execute("INSERT INTO notes (text) VALUES ('half done')", [])?;
                tx.execute("INSERT INTO notes (text) VALUES ('a')", [])?;
                Ok(())
            })
            .await
    });
    let panicking = store.clone();
    writes.spawn(async move {
        panicking
            .write(|tx| {
                tx.execute("INSERT INTO notes (text) VALUES ('before the panic')", [])?;
                panic!("on purpose");
            })
            .await
    });
    let after = spawn_all(&store, ["c".to_owned()].into_iter()).await;
    release.send(()).unwrap();
    let results = writes.join_all().await;
    assert_eq!(results.iter().filter(|result| matches!(result, Err(StoreError::Sqlite(_)))).count(), 1);
    let panicked =
        |result: &Result<(), _>| matches!(result, Err(StoreError::Panicked(why)) if why == "on purpose");
    assert_eq!(results.iter().filter(|result| panicked(result)).count(), 1);
    assert!(after.join_all().await.iter().all(Result::is_ok));
    assert_eq!(all(&store).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_callers_own_error_type_comes_back() {
    #[derive(Debug)]
    enum Mine {
        NoMoney,
        Store(StoreError),
    }
    impl From<StoreError> for Mine {
        fn from(error: StoreError) -> Self {
            Self::Store(error)
        }
    }
    let folder = folder();
    let store = notes(&folder);
    let refused = store.write(|_| Err::<(), _>(Mine::NoMoney)).await;
    assert!(matches!(refused, Err(Mine::NoMoney)));
    store.close().await;
    assert!(matches!(store.write(|_| Ok::<_, Mine>(())).await, Err(Mine::Store(StoreError::Closed))));
}

#[tokio::test]
async fn a_closure_that_ends_the_transaction_is_an_error_and_the_writer_goes_on() {
    let folder = folder();
    let store = notes(&folder);
    let result = store.write(|tx| Ok::<_, StoreError>(tx.execute_batch("ROLLBACK")?)).await;
    assert!(matches!(result, Err(StoreError::RolledBack)), "{result:?}");
    add(&store, "after").await.unwrap();
}

#[tokio::test]
async fn a_write_is_carried_out_though_its_caller_went_away() {
    let folder = folder();
    let store = notes(&folder);
    let (release, blocker) = block(&store).await;
    let mut writes = spawn_all(&store, ["kept".to_owned()].into_iter()).await;
    writes.shutdown().await;
    release.send(()).unwrap();
    blocker.join_all().await;
    add(&store, "later").await.unwrap();
    assert_eq!(all(&store).await, ["kept", "later"]);
}

#[tokio::test]
async fn a_full_disk_is_said_plainly_and_passes() {
    let folder = folder();
    let store = notes(&folder);
    let limit = |pages: u32| {
        let store = store.clone();
        async move {
            let sql = format!("PRAGMA max_page_count = {pages}");
            store.write(move |tx| Ok::<_, StoreError>(tx.query_row(&sql, [], |_| Ok(()))?)).await.unwrap();
        }
    };
    limit(1).await;
    let long = "x".repeat(100_000);
    let full = add(&store, &long).await.unwrap_err();
    assert_eq!(full.to_string(), "the disk is full; free some space and try again");
    assert!(store.failure().borrow().is_none(), "nothing is broken");
    limit(100_000).await;
    add(&store, &long).await.unwrap();
}

#[tokio::test]
async fn a_read_cannot_write() {
    let folder = folder();
    let store = notes(&folder);
    let result = store.read(|conn| Ok::<_, StoreError>(conn.execute("DELETE FROM notes", [])?)).await;
    assert!(matches!(result, Err(StoreError::Sqlite(_))));
}

#[tokio::test]
async fn a_panic_in_a_read_is_an_error() {
    let folder = folder();
    let store = notes(&folder);
    let result = store.read(|_| -> Result<(), StoreError> { panic!("on purpose") }).await;
    assert!(matches!(result, Err(StoreError::Panicked(why)) if why == "on purpose"));
}

#[tokio::test]
async fn closing_finishes_what_is_queued_and_refuses_the_rest() {
    let folder = folder();
    let store = notes(&folder);
    let (release, _blocker) = block(&store).await;
    let writes = spawn_all(&store, (0..20).map(|n| n.to_string())).await;
    release.send(()).unwrap();
    store.close().await;
    assert!(writes.join_all().await.iter().all(Result::is_ok));
    assert!(matches!(add(&store, "late").await, Err(StoreError::Closed)));
    assert!(matches!(store.read(|_| Ok::<_, StoreError>(())).await, Err(StoreError::Closed)));
    store.close().await;
    assert!(!folder.path().join("notes.db-wal").exists(), "the log was moved into the file");
    assert_eq!(all(&notes(&folder)).await.len(), 20);
}

#[tokio::test]
async fn the_thread_ends_with_the_last_handle() {
    let folder = folder();
    let store = notes(&folder);
    let mut failure = store.failure();
    let clone = store.clone();
    drop(store);
    add(&clone, "still there").await.unwrap();
    drop(clone);
    assert!(failure.changed().await.is_err(), "the thread dropped its end");
}

#[tokio::test]
async fn migrations_run_once_and_in_order() {
    let folder = folder();
    let path = folder.path().join("notes.db");
    let store = Store::open(&path, &[NOTES]).unwrap();
    add(&store, "old").await.unwrap();
    store.close().await;
    let steps = [NOTES, "ALTER TABLE notes ADD COLUMN stars INTEGER NOT NULL DEFAULT 3"];
    let store = Store::open(&path, &steps).unwrap();
    let stars = store
        .read(|conn| Ok::<i64, StoreError>(conn.query_row("SELECT stars FROM notes", [], |row| row.get(0))?));
    assert_eq!(stars.await.unwrap(), 3);
    store.close().await;

    let error = Store::open(&path, &[NOTES]).unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("notes.db"));
}

#[tokio::test]
async fn a_migration_that_fails_is_named_and_changes_nothing() {
    let folder = folder();
    let path = folder.path().join("notes.db");
    Store::open(&path, &[NOTES]).unwrap().close().await;
    let error = Store::open(&path, &[NOTES, "CREATE TABLE half (a); SELECT nonsense"]).unwrap_err();
    assert!(matches!(error, StoreError::Migration { version: 2, .. }), "{error:?}");
    let store = Store::open(&path, &[NOTES]).unwrap();
    let tables = store.read(|conn| {
        Ok::<i64, StoreError>(conn.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE name = 'half'",
            [],
            |row| row.get(0),
        )?)
    });
    assert_eq!(tables.await.unwrap(), 0);
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let folder = folder();
    let store = notes(&folder);
    add(&store, "secret").await.unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        seen += 1;
    }
    assert!(seen >= 2, "the database and its log");
}

#[test]
fn a_file_that_is_not_a_database_is_refused_named_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("notes.db");
    for bytes in [b"".to_vec(), b"hello".to_vec(), vec![0x5a; 8192]] {
        std::fs::write(&path, &bytes).unwrap();
        let error = Store::open(&path, &[NOTES]).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains("notes.db") && error.to_string().contains("backup"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = Store::open("/nonexistent/notes.db".as_ref(), &[NOTES]).unwrap_err();
    assert!(
        matches!(error, StoreError::File { .. }) && error.to_string().contains("/nonexistent"),
        "{error}"
    );
}

#[test]
fn leftovers_of_an_interrupted_creation_do_no_harm() {
    let folder = folder();
    for leftover in ["notes.db.new", "notes.db.new-wal", "notes.db.new-journal"] {
        std::fs::write(folder.path().join(leftover), "half a database").unwrap();
    }
    notes(&folder);
}
