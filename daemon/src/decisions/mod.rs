//! The log of routing decisions: what each was decided on, what came of it, and the way to decide it again. There is no
//! text of a prompt in it, and no way to put one there: a record holds whole numbers and enums. It is best effort: an
//! answer never waits for it, and a record for which there is no room is dropped and counted.

mod files;
mod keeper;
mod record;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use ulid::Ulid;

use crate::ask::Driven;
use crate::route::{Decision, Evidence, Inputs, settle};
use files::Files;
pub use keeper::DecisionKeeper;
pub use record::{Fault, Record, Replay, replay};

/// Records that wait for the disk.
const AHEAD: usize = 256;
/// How long a reader waits for the records before it to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the writer is handed.
#[derive(Debug)]
enum Entry {
    Record(Box<Record>),
    /// Answered when everything before it is on the disk.
    Written(oneshot::Sender<()>),
}

/// Where decisions go and come from. Clones share one log.
#[derive(Debug, Clone)]
pub struct DecisionLog {
    entries: mpsc::Sender<Entry>,
    files: Files,
    dropped: Arc<AtomicU64>,
}

impl DecisionLog {
    /// The log below `folder` that keeps `keep` decisions (0: none), and the subsystem that writes it.
    pub fn new(folder: &Path, keep: u32) -> (Self, DecisionKeeper) {
        let (entries, written) = mpsc::channel(AHEAD);
        let files = Files::new(folder, keep);
        let log = Self { entries, files: files.clone(), dropped: Arc::default() };
        (log, DecisionKeeper::new(written, files))
    }

    /// A decision that is being made.
    pub fn case(&self, id: Ulid, inputs: Inputs) -> Case {
        Case { log: self.clone(), id, at: SystemTime::now(), inputs, evidence: Vec::new() }
    }

    /// The newest lines as they were written, oldest first; at most `limit`, 0: all that are kept.
    pub async fn newest(&self, limit: u32) -> Driven<io::Result<String>> {
        let (written, until) = oneshot::channel();
        // A writer that is late or gone only means that the newest lines are missing.
        if self.entries.try_send(Entry::Written(written)).is_ok() {
            let _ = timeout(PATIENCE, until).await;
        }
        let files = self.files.clone();
        Driven::new(move |lines| async move {
            match spawn_blocking(move || files.read(limit, |line| lines.blocking_send(Ok(line)).is_ok()))
                .await
            {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Err(error)),
                Err(error) => Some(Err(io::Error::other(error))),
            }
        })
    }

    fn record(&self, record: Record) {
        if self.files.keep() == 0 {
            return;
        }
        if self.entries.try_send(Entry::Record(Box::new(record))).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::debug!(dropped, "a routing decision was not recorded: the log is not keeping up");
        }
    }
}

/// One decision from its first inputs to its last evidence. It is recorded when it is let go, whichever way: an answer
/// that failed or was given up was decided as well.
#[derive(Debug)]
pub struct Case {
    log: DecisionLog,
    id: Ulid,
    at: SystemTime,
    inputs: Inputs,
    evidence: Vec<Evidence>,
}

impl Case {
    /// What it was first decided on.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// As things stand.
    pub fn decision(&self) -> Decision {
        settle(&self.inputs, &self.evidence)
    }

    /// Takes more evidence in, and says how things stand now.
    pub fn weigh(&mut self, evidence: Evidence) -> Decision {
        self.evidence.push(evidence);
        self.decision()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        self.log.record(Record::new(self.id, self.at, self.inputs, std::mem::take(&mut self.evidence)));
    }
}
