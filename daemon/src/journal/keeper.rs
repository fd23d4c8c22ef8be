//! The journal as a subsystem: it is open before the first request, it says when it takes no more writes, and it is
//! closed after the last one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use synesis_store::StoreError;
use synesis_supervise::{BoxError, Context, Subsystem};

use super::{DeviceJournal, JournalError};
use crate::log::chain;

/// Keeps the journal.
#[derive(Debug)]
pub struct JournalKeeper {
    journal: DeviceJournal,
    opened: Opened,
    folder: PathBuf,
}

/// What opening it found, to be shown until somebody has looked.
#[derive(Debug)]
enum Opened {
    Whole,
    Changed(String),
    /// There is none.
    Not(String),
}

impl JournalKeeper {
    /// Opens the journal in `folder`. A device whose journal cannot be opened answers locally: it has none, lets nothing
    /// leave, and says so.
    pub async fn open(folder: &Path) -> (DeviceJournal, Self) {
        let (journal, opened) = match DeviceJournal::open(folder).await {
            Ok((journal, recovery)) => match recovery.warning() {
                Some(warning) => {
                    tracing::error!(rows = recovery.rows, warning, "the journal is not what it was");
                    (journal, Opened::Changed(warning))
                }
                None => {
                    tracing::info!(rows = recovery.rows, "journal open");
                    (journal, Opened::Whole)
                }
            },
            Err(error) => {
                let why = match &error {
                    JournalError::Store(cause) => chain(cause),
                    other => chain(other),
                };
                tracing::error!(
                    error = why,
                    "the journal cannot be opened; nothing can be sent to the cloud"
                );
                (DeviceJournal::absent(&why), Opened::Not(why))
            }
        };
        let keeper = Self { journal: journal.clone(), opened, folder: folder.to_owned() };
        (journal, keeper)
    }

    fn tell(&self, cx: &Context, failure: Option<&StoreError>, doubts: &BTreeMap<String, String>) {
        let disk = |then: &str| format!("check the disk under {}, {then}", self.folder.display());
        if let Some(error) = failure {
            let next = disk("then restart synesisd; local answers go on");
            return cx.degraded(format!("the journal takes no writes: {error}"), next);
        }
        match &self.opened {
            Opened::Not(why) => cx.degraded(
                format!("the journal cannot be opened, so nothing is sent to the cloud: {why}"),
                disk("then restart synesisd; local answers go on"),
            ),
            Opened::Changed(warning) => {
                cx.degraded(warning.clone(), "run `synctl billing verify`, and keep the files for support");
            }
            Opened::Whole => match doubts.first_key_value() {
                Some((request, why)) => cx.degraded(
                    format!("the receipt of request {request} {why}"),
                    "run `synctl billing verify`, and ask the gateway's operator about it",
                ),
                None => cx.healthy(),
            },
        }
    }
}

#[async_trait::async_trait]
impl Subsystem for JournalKeeper {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let (mut failures, mut doubts) = (self.journal.failure(), self.journal.doubts());
        cx.ready();
        let stop = cx.stopping();
        loop {
            let (failure, doubted) =
                (failures.borrow_and_update().clone(), doubts.borrow_and_update().clone());
            self.tell(cx, failure.as_ref(), &doubted);
            tokio::select! {
                // It is closed when the journal is, and never opened for one that is absent.
                Ok(()) = failures.changed() => {}
                Ok(()) = doubts.changed() => {}
                () = stop.cancelled() => break,
            }
        }
        self.journal.shut().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use synesis_supervise::{HealthBoard, State};
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// What the board says of the keeper until `wanted` is in it.
    async fn told(keeper: &mut JournalKeeper, wanted: &str) -> String {
        let (board, stop) = (HealthBoard::new(), CancellationToken::new());
        let cx = Context::detached(&board, "journal", stop.clone());
        let mut seen = board.subscribe();
        let reason = async {
            let all = seen.wait_for(|all| {
                all.iter().any(|health| health.state == State::Degraded && health.reason.contains(wanted))
            });
            all.await.unwrap()[0].reason.clone()
        };
        tokio::select! {
            ended = keeper.run(&cx) => panic!("it ended by itself: {ended:?}"),
            reason = reason => reason,
        }
    }

    #[tokio::test]
    async fn a_journal_that_cannot_be_opened_is_absent_and_nothing_can_be_promised() {
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::write(folder.path().join("journal.db"), "no database at all, but long enough to be one")
            .unwrap();
        let (journal, mut keeper) = JournalKeeper::open(folder.path()).await;
        let reason = told(&mut keeper, "nothing is sent").await;
        assert!(reason.contains("journal.db"), "{reason}");
        let intent = crate::journal::Intent {
            request_id: "r".to_owned(),
            device_id: "d".to_owned(),
            redacted_hash: String::new(),
            detector_version: String::new(),
            at_ms: 0,
            most_nanousd: None,
        };
        assert!(matches!(journal.begin(intent).await, Err(JournalError::Absent(_))));
        assert!(matches!(journal.receipts().await, Err(JournalError::Absent(_))));
        assert_eq!(*journal.pending().borrow(), 0);
        let left = std::fs::read(folder.path().join("journal.db")).unwrap();
        assert!(left.starts_with(b"no database"), "what is there is left as it is");
    }

    #[tokio::test]
    async fn a_receipt_that_does_not_hold_is_shown() {
        let folder = tempfile::TempDir::new().unwrap();
        let (journal, mut keeper) = JournalKeeper::open(folder.path()).await;
        journal.doubts.add("r7", "is damaged on disk");
        let reason = told(&mut keeper, "r7").await;
        assert_eq!(reason, "the receipt of request r7 is damaged on disk");
    }
}
