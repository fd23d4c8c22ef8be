//! What this device must not forget about money: the intent before anything is sent, the receipt after, and how a
//! request ended that cost nothing. Rows are durable when a call returns; an index of them is kept in memory.

mod doubts;
mod index;
mod keeper;
mod receipts;
mod records;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use synesis_ledger::{NanoUsd, SignedReceipt};
use synesis_mesh::identity::ReceiptKey;
use synesis_store::chain::Report;
use synesis_store::{Journal, Recovery, StoreError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use doubts::Doubts;
pub use index::ChainFault;
use index::Index;
pub use keeper::JournalKeeper;
pub use receipts::ReceiptError;
use records::{INTENT, OUTCOME, Outcome, RECEIPT, RECEIPT_KEY};
pub use records::{Intent, OutcomeKind};

/// Why the journal could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The store failed; nothing was acknowledged.
    #[error("the journal cannot be written or read")]
    Store(#[from] StoreError),
    /// A row could not be written as JSON.
    #[error("a record cannot be encoded")]
    Encode(#[source] serde_json::Error),
    /// There is no journal: the file could not be opened when the daemon started.
    #[error("the journal could not be opened: {0}")]
    Absent(Arc<str>),
    /// The daemon ends.
    #[error("the journal was closed in the middle of a record")]
    Closing,
}

/// The device's journal. Clones share one.
#[derive(Debug, Clone)]
pub struct DeviceJournal {
    rows: Rows,
    index: Arc<Mutex<Index>>,
    keys: Arc<Mutex<BTreeMap<String, [u8; 32]>>>,
    /// Receipts are checked against their neighbours and stored one at a time. The storing is a task, so that a caller
    /// who leaves in the middle of it does not leave the index behind the file.
    storing: Arc<tokio::sync::Mutex<JoinSet<Result<(), JournalError>>>>,
    pending: Arc<watch::Sender<u32>>,
    released: Arc<Notify>,
    doubts: Doubts,
}

/// The file behind the journal.
#[derive(Debug, Clone)]
enum Rows {
    Open(Journal),
    /// It could not be opened, for this reason. Nothing can be promised, and so nothing can be sent.
    Absent(Arc<str>),
}

impl Rows {
    fn open(&self) -> Result<&Journal, JournalError> {
        match self {
            Self::Open(rows) => Ok(rows),
            Self::Absent(why) => Err(JournalError::Absent(Arc::clone(why))),
        }
    }
}

/// An escalation under way. While it lives, reconciliation leaves its request alone.
#[derive(Debug)]
pub struct OpenIntent {
    journal: DeviceJournal,
    /// What was promised to the disk.
    pub intent: Intent,
}

impl DeviceJournal {
    /// Opens the journal in `folder` and reads its index back. Blocks the thread for a few syncs.
    ///
    /// # Errors
    /// When the file is not ours, damaged beyond reading, or cannot be opened.
    pub async fn open(folder: &Path) -> Result<(Self, Recovery), JournalError> {
        let (rows, recovery) = Journal::open(folder)?;
        let (mut index, mut begun, doubts) = (Index::default(), HashMap::new(), Doubts::default());
        for row in rows.rows(INTENT).await? {
            match serde_json::from_slice::<Intent>(&row.body) {
                Ok(intent) => {
                    begun.insert(intent.request_id.clone(), intent.at_ms);
                    index.open(intent);
                }
                Err(error) => {
                    tracing::error!(row = row.seq, %error, "an intent in the journal cannot be read")
                }
            }
        }
        for row in rows.rows(OUTCOME).await? {
            index.close(&row.key);
        }
        for row in rows.rows(RECEIPT).await? {
            // Damaged or not, a receipt arrived for it: the request is not open.
            index.close(&row.key);
            match (&row.fault, SignedReceipt::from_bytes(&row.body)) {
                (None, Ok(signed)) => index.settle(&signed.receipt, begun.get(&row.key).copied()),
                // Whatever it says now, the receipts beside it are not measured by it.
                _ => {
                    tracing::error!(
                        row = row.seq,
                        request = row.key,
                        "a stored receipt is damaged; run `synctl billing verify`"
                    );
                    doubts.add(&row.key, "is damaged on disk");
                }
            }
        }
        let mut keys = BTreeMap::new();
        for row in rows.rows(RECEIPT_KEY).await? {
            match (row.fault, row.body.try_into()) {
                (None, Ok(key)) => {
                    keys.insert(row.key, key);
                }
                _ => tracing::error!(
                    row = row.seq,
                    key = row.key,
                    "a stored receipt key is damaged; enrol again to have it back"
                ),
            }
        }
        let pending = Arc::new(watch::Sender::new(index.pending_count()));
        let journal = Self {
            rows: Rows::Open(rows),
            index: Arc::new(Mutex::new(index)),
            keys: Arc::new(Mutex::new(keys)),
            storing: Arc::default(),
            pending,
            released: Arc::default(),
            doubts,
        };
        Ok((journal, recovery))
    }

    /// In the place of a journal that cannot be opened, for the reason `why`: it takes nothing and has nothing, so that
    /// nothing leaves the device, and local answers go on.
    pub fn absent(why: &str) -> Self {
        Self {
            rows: Rows::Absent(why.into()),
            index: Arc::default(),
            keys: Arc::default(),
            storing: Arc::default(),
            pending: Arc::new(watch::Sender::new(0)),
            released: Arc::default(),
            doubts: Doubts::default(),
        }
    }

    /// Promises the intent to the disk. Only then may a byte leave.
    ///
    /// # Errors
    /// When the store cannot take it; then nothing may be sent.
    pub async fn begin(&self, intent: Intent) -> Result<OpenIntent, JournalError> {
        let rows = self.rows.open()?;
        let body = serde_json::to_vec(&intent).map_err(JournalError::Encode)?;
        self.index().begin(intent.clone());
        // From here on the guard takes the mark away again, also when the write fails or the caller leaves.
        let open = OpenIntent { journal: self.clone(), intent };
        self.publish();
        if let Err(error) = rows.append(INTENT, &open.intent.request_id, body).await {
            self.index().close(&open.intent.request_id);
            return Err(error.into());
        }
        Ok(open)
    }

    /// Closes a request that was not charged.
    ///
    /// # Errors
    /// When the store cannot take it; the request stays open.
    pub async fn close(&self, request_id: &str, outcome: OutcomeKind) -> Result<(), JournalError> {
        let body = serde_json::to_vec(&Outcome { outcome }).map_err(JournalError::Encode)?;
        self.rows.open()?.append(OUTCOME, request_id, body).await?;
        self.index().close(request_id);
        self.publish();
        Ok(())
    }

    /// How many requests of the identity `device_id` wait for their receipt, the running ones included.
    pub fn open_of(&self, device_id: &str) -> usize {
        self.index().open_requests().filter(|(_, device)| *device == device_id).count()
    }

    /// Every request that waits for its receipt and the identity it was sent under, the running ones included.
    pub fn open_requests(&self) -> Vec<(String, String)> {
        let index = self.index();
        index.open_requests().map(|(id, device)| (id.to_owned(), device.to_owned())).collect()
    }

    /// Closes every open request that was sent under another identity than `kept`: nobody can settle it any more.
    ///
    /// # Errors
    /// When the store cannot take it; what is left stays open.
    pub async fn abandon(&self, kept: Option<&str>) -> Result<(), JournalError> {
        let lost: Vec<String> = {
            let index = self.index();
            let lost = index.open_requests().filter(|(_, device)| Some(*device) != kept);
            lost.map(|(request_id, _)| request_id.to_owned()).collect()
        };
        for request_id in lost {
            self.close(&request_id, OutcomeKind::Abandoned).await?;
            tracing::warn!(
                request = request_id,
                "a request was abandoned with its identity; it may have been charged"
            );
        }
        Ok(())
    }

    /// Keeps the keys that this device was told at enrolment to check receipts with. They outlive the identity, as
    /// the receipts do.
    ///
    /// # Errors
    /// When the store cannot take them.
    pub async fn pin(&self, keys: &[ReceiptKey]) -> Result<(), JournalError> {
        for key in keys {
            if !self.pinned().contains_key(&key.key_id) {
                self.rows.open()?.append(RECEIPT_KEY, &key.key_id, key.public_key).await?;
                self.pinned().insert(key.key_id.clone(), key.public_key);
            }
        }
        Ok(())
    }

    /// Every key pinned so far.
    pub fn receipt_keys(&self) -> Vec<ReceiptKey> {
        let keys = self.pinned();
        keys.iter().map(|(id, key)| ReceiptKey { key_id: id.clone(), public_key: *key }).collect()
    }

    /// Requests whose receipt has not arrived and that nobody is working on, oldest first.
    pub fn unsettled(&self) -> Vec<Intent> {
        self.index().unsettled()
    }

    /// Resolves when a request was let go without a receipt, once for each call that waits.
    pub async fn let_go(&self) {
        self.released.notified().await;
    }

    /// How many requests wait for their receipt, the running ones included.
    pub fn pending(&self) -> watch::Receiver<u32> {
        self.pending.subscribe()
    }

    /// What counts against the device's limit for the UTC day of `now`: what requests begun on it were charged,
    /// and what open ones may still cost. Saturates at the largest amount.
    pub fn committed(&self, now: SystemTime) -> NanoUsd {
        self.index().committed(now)
    }

    /// Checks every row and link of the file as it is on disk now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn verify(&self) -> Result<Report, JournalError> {
        Ok(self.rows.open()?.verify().await?)
    }

    /// Set when the store takes no more writes; never for a journal that is absent.
    pub fn failure(&self) -> watch::Receiver<Option<StoreError>> {
        match &self.rows {
            Rows::Open(rows) => rows.failure(),
            Rows::Absent(_) => watch::channel(None).1,
        }
    }

    /// Receipts that do not hold.
    pub fn doubts(&self) -> watch::Receiver<BTreeMap<String, String>> {
        self.doubts.watch()
    }

    /// Stores what is queued and closes the file.
    pub async fn shut(&self) {
        let mut storing = self.storing.lock().await;
        while storing.join_next().await.is_some() {}
        if let Rows::Open(rows) = &self.rows {
            rows.close().await;
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pinned(&self) -> MutexGuard<'_, BTreeMap<String, [u8; 32]>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self) {
        let count = self.index().pending_count();
        self.pending.send_if_modified(|pending| std::mem::replace(pending, count) != count);
    }
}

impl OpenIntent {
    /// The gateway's promise: it will be charged no more than this.
    pub fn promised(&self, most: NanoUsd) {
        self.journal.index().promise(&self.intent.request_id, most);
    }
}

impl Drop for OpenIntent {
    fn drop(&mut self) {
        self.journal.publish();
        if self.journal.index().end(&self.intent.request_id) {
            self.journal.released.notify_one();
        }
    }
}
