//! The handle: opens a database, queues writes to its thread, and runs reads beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rusqlite::{Connection, Transaction};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;

use crate::anchor::{self, Anchor, Found};
use crate::chain::{self, Head};
use crate::readers::{Freshness, Readers};
use crate::writer::{Message, Write, Writer};
use crate::{AnchorState, Recovery, StoreError, recovery, schema};

/// Writers beyond this many wait for a place: back-pressure.
const QUEUE: usize = 1024;

/// A SQLite database with one writer thread. Cheap to clone; the thread ends with the last clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    queue: mpsc::Sender<Message>,
    failure: watch::Receiver<Option<StoreError>>,
    readers: Readers,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens or creates the database and brings it to the newest schema: `migrations` is every step ever
    /// shipped, in order, never edited afterwards. Blocks for a few syncs.
    pub fn open(path: &Path, migrations: &[&str]) -> Result<Self, StoreError> {
        let connection = schema::open_writer(path, migrations)?;
        Self::start(path, connection, None)
    }

    /// The same for a store whose migrations include [`chain::SCHEMA`]: the chain's head is kept in a second
    /// file beside the database (its name with the extension `head`), and compared now. Only one process can
    /// have it open. Blocks for a few syncs.
    pub fn open_anchored(path: &Path, migrations: &[&str]) -> Result<(Self, Recovery), StoreError> {
        let anchor_path = anchor_path(path);
        // First, for its lock.
        let found = Anchor::open(&anchor_path)?;
        let connection = schema::open_writer(path, migrations)?;
        let anchored = match &found {
            Found::Anchor(anchor) => Some(anchor.head()),
            Found::Missing | Found::Unreadable { .. } => None,
        };
        let recovery = recovery::examine(&connection, anchored)?;
        let anchor = match found {
            Found::Anchor(anchor) => anchor,
            Found::Missing | Found::Unreadable { .. } => {
                Anchor::create(&anchor_path, chain::head(&connection)?)?
            }
        };
        report(path, &recovery);
        Ok((Self::start(path, connection, Some(anchor))?, recovery))
    }

    pub(crate) fn start(
        path: &Path,
        connection: Connection,
        anchor: Option<Anchor>,
    ) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (failure_tx, failure) = watch::channel(None);
        let writer = Writer { connection, anchor, queue: jobs, failure: failure_tx };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(crate::durable::at(path))?;
        let inner = Inner {
            path: path.to_owned(),
            queue,
            failure,
            readers: Readers::new(path),
            thread: Mutex::new(Some(thread)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs a closure in a transaction of its own and answers once it is durably committed. An error or a panic
    /// in it rolls back what it wrote and nothing else. It must not commit or roll back by itself, and shares
    /// its commit with others: no deferred constraints.
    ///
    /// A write that is queued is carried out even if the caller stops waiting for it.
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Message::Work(Box::new(Write::new(work, reply)));
        self.inner.queue.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Runs a closure over one snapshot of what is committed, on a read-only connection off the async threads.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.read_with(Freshness::Pooled, work).await
    }

    /// The same on a new connection, which has cached nothing: sees what is in the file now.
    pub async fn read_from_disk<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.read_with(Freshness::FromDisk, work).await
    }

    async fn read_with<T, E, F>(&self, freshness: Freshness, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        if self.inner.queue.is_closed() {
            return Err(StoreError::Closed.into());
        }
        let inner = Arc::clone(&self.inner);
        match spawn_blocking(move || inner.readers.run(freshness, work)).await {
            Ok(result) => result,
            Err(failed) => match failed.try_into_panic() {
                Ok(payload) => Err(StoreError::from_panic(payload.as_ref()).into()),
                Err(_cancelled) => Err(StoreError::Closed.into()),
            },
        }
    }

    /// Checks the whole chain against the file and its anchor, afresh from disk. Takes time in proportion to
    /// the rows.
    pub async fn verify_chain(&self) -> Result<chain::Report, StoreError> {
        let anchor_path = anchor_path(&self.inner.path);
        self.read_from_disk(move |conn| {
            // The anchor may move on between these two reads; the snapshot is taken by the first row read, so
            // it is never older than the anchor.
            let anchored: Option<Head> = anchor::read_head(&anchor_path)?;
            chain::verify(conn, anchored)
        })
        .await
    }

    /// Turns to the cause when an error of the disk has stopped all writing; the sender ends with the thread.
    pub fn failure(&self) -> watch::Receiver<Option<StoreError>> {
        self.inner.failure.clone()
    }

    /// Takes no more work, finishes what is queued, and waits until the files are closed. Idempotent.
    pub async fn close(&self) {
        // An error means that it is closed already.
        let _ = self.inner.queue.send(Message::Close).await;
        let mut thread = self.inner.thread.lock().await;
        self.inner.readers.clear();
        if let Some(thread) = thread.take()
            && spawn_blocking(move || thread.join()).await.is_err()
        {
            tracing::warn!("the runtime stopped before the store was closed");
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

fn anchor_path(path: &Path) -> PathBuf {
    path.with_extension("head")
}

fn report(path: &Path, recovery: &Recovery) {
    let (rows, path) = (recovery.rows, path.display());
    match (recovery.truncated, recovery.anchor) {
        (Some(truncation), _) => tracing::error!(%path, rows, "{truncation}"),
        (None, AnchorState::Lost) => tracing::warn!(%path, rows, "the anchor was lost and is made again"),
        (None, AnchorState::New | AnchorState::Held) => tracing::debug!(%path, rows, "chain opened"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn after_a_disk_error_the_store_says_so_and_takes_no_more_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let connection = schema::open_writer(&path, &[chain::SCHEMA]).unwrap();
        // Every write to this device fails for lack of space.
        let full = Path::new("/dev/full");
        let file = std::fs::OpenOptions::new().read(true).write(true).open(full).unwrap();
        let store = Store::start(&path, connection, Some(Anchor::on(file, full))).unwrap();
        let mut failure = store.failure();
        let append = || {
            let store = store.clone();
            async move { store.write(|tx| chain::append(tx, "kind", "key", b"body")).await }
        };

        let first = append().await.unwrap_err();
        assert!(matches!(&first, StoreError::Anchor { .. }), "{first:?}");
        failure.changed().await.unwrap();
        assert!(matches!(&*failure.borrow(), Some(StoreError::Anchor { .. })));
        let second = append().await.unwrap_err();
        assert!(matches!(&second, StoreError::Failed(_)), "{second:?}");
        let rows = store.read(|conn| chain::rows(conn, "kind")).await.unwrap();
        assert_eq!(rows.len(), 1, "reading goes on, and the second write left nothing");
        store.close().await;
    }
}
