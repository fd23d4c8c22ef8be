//! The one thread that writes: takes what is queued, runs it in one transaction with a savepoint for each
//! closure, commits once, anchors the head, and only then answers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use crate::anchor::Anchor;
use crate::{StoreError, chain};

/// The most closures that share a commit: bounds what one failed commit takes down.
const GROUP: usize = 256;

/// A queued closure whose result waits for the commit.
pub(crate) trait Job: Send {
    /// Runs the closure; `false`: what it wrote must be rolled back.
    fn run(&mut self, tx: &Transaction<'_>) -> bool;
    /// Answers the caller, after the commit or its failure.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

pub(crate) enum Message {
    Work(Box<dyn Job>),
    Close,
}

/// A job made of a closure and the way back to its caller.
pub(crate) struct Write<F, T, E> {
    work: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Write<F, T, E> {
    pub(crate) fn new(work: F, reply: oneshot::Sender<Result<T, E>>) -> Self {
        Self { work: Some(work), result: None, reply }
    }
}

impl<F, T, E> Job for Write<F, T, E>
where
    F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, tx: &Transaction<'_>) -> bool {
        let Some(work) = self.work.take() else { return false };
        // Unwind safety: the closure is gone afterwards, and the savepoint undoes what it wrote.
        let result = catch_unwind(AssertUnwindSafe(|| work(tx)))
            .unwrap_or_else(|payload| Err(StoreError::from_panic(payload.as_ref()).into()));
        self.result.insert(result).is_ok()
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let answer = match (self.result, committed) {
            (Some(Err(own)), _) => Err(own),
            (_, Err(group)) => Err(group.into()),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(StoreError::Closed.into()),
        };
        // The caller may have stopped waiting; the write stands all the same.
        let _ = self.reply.send(answer);
    }
}

/// Everything the thread owns. Dropped in this order: the lock of the anchor goes before `failure`, whose end
/// is how others see that the thread is done.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) anchor: Option<Anchor>,
    pub(crate) queue: mpsc::Receiver<Message>,
    pub(crate) failure: watch::Sender<Option<StoreError>>,
}

impl Writer {
    /// Works until the store is closed or its last handle is gone, and everything queued is answered.
    pub(crate) fn run(mut self) {
        while let Some(first) = self.queue.blocking_recv() {
            let group = self.gather(first);
            if !group.is_empty() {
                self.commit(group);
            }
        }
        // So that the next start finds an empty log. Failing is harmless: the log is replayed then.
        if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::debug!(%error, "no checkpoint at close");
        }
    }

    fn gather(&mut self, first: Message) -> Vec<Box<dyn Job>> {
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Work(job) => group.push(job),
                // No more is taken in; what is queued is still done.
                Message::Close => self.queue.close(),
            }
            next = if group.len() < GROUP { self.queue.try_recv().ok() } else { None };
        }
        group
    }

    fn commit(&mut self, mut group: Vec<Box<dyn Job>>) {
        let earlier = self.failure.borrow().clone();
        let outcome = match earlier {
            Some(cause) => Err(StoreError::Failed(Arc::new(cause))),
            None => self.run_group(&mut group),
        };
        if let Err(error) = &outcome
            && error.is_fatal()
        {
            tracing::error!(%error, "the store takes no more writes; check the disk, then restart");
            self.failure.send_replace(Some(error.clone()));
        }
        for job in group {
            job.answer(outcome.clone());
        }
    }

    fn run_group(&mut self, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in group {
            tx.prepare_cached("SAVEPOINT job")?.execute([])?;
            let keep = job.run(&tx);
            if tx.is_autocommit() {
                // A full disk or an I/O error ended the transaction under us.
                return Err(StoreError::RolledBack);
            }
            if !keep {
                tx.prepare_cached("ROLLBACK TO job")?.execute([])?;
            }
            tx.prepare_cached("RELEASE job")?.execute([])?;
        }
        let head = self.anchor.is_some().then(|| chain::head(&tx)).transpose()?;
        tx.commit()?;
        match (&mut self.anchor, head) {
            (Some(anchor), Some(head)) if head != anchor.head() => anchor.advance(head),
            _ => Ok(()),
        }
    }
}
