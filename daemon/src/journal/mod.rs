//! What this device must not forget about money: the intent before anything is sent, the receipt after, and how a
//! request ended that cost nothing. Rows are durable when a call returns; an index of them is kept in memory.

mod index;
mod keeper;
mod records;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use synesis_ledger::{KeyRing, NanoUsd, SignedReceipt, VerifyError};
use synesis_mesh::identity::ReceiptKey;
use synesis_store::chain::{Report, Row};
use synesis_store::{Journal, Recovery, StoreError};
use tokio::sync::{Notify, watch};

use index::{ChainFault, Index};
pub use keeper::JournalKeeper;
pub use records::{Intent, OutcomeKind};
use records::{INTENT, OUTCOME, Outcome, RECEIPT, RECEIPT_KEY};

/// Why the journal could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The store failed; nothing was acknowledged.
    #[error("the journal cannot be written or read")]
    Store(#[from] StoreError),
    /// A row could not be written as JSON.
    #[error("a record cannot be encoded")]
    Encode(#[source] serde_json::Error),
}

/// Why a receipt was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// Its bytes are no receipt.
    #[error("the bytes are not a receipt")]
    Undecodable(#[source] synesis_ledger::DecodeError),
    /// It is not signed by a key this device trusts.
    #[error("the receipt's signature does not hold")]
    Signature(#[source] VerifyError),
    /// It is for another request, or for other bytes than were sent.
    #[error("the receipt is for another {0} than was sent")]
    Mismatch(&'static str),
    /// Its amounts do not add up.
    #[error("the receipt's amounts do not add up")]
    Amounts,
    /// It does not fit between its neighbours.
    #[error(transparent)]
    Chain(#[from] ChainFault),
    /// It could not be stored.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// The device's journal. Clones share one.
#[derive(Debug, Clone)]
pub struct DeviceJournal {
    rows: Journal,
    index: Arc<Mutex<Index>>,
    keys: Arc<Mutex<BTreeMap<String, [u8; 32]>>>,
    /// Receipts are checked against their neighbours and stored one at a time.
    receipts: Arc<tokio::sync::Mutex<()>>,
    pending: Arc<watch::Sender<u32>>,
    released: Arc<Notify>,
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
        let mut index = Index::default();
        for row in rows.rows(INTENT).await? {
            match serde_json::from_slice::<Intent>(&row.body) {
                Ok(intent) => index.open(intent),
                Err(error) => tracing::error!(row = row.seq, %error, "an intent in the journal cannot be read"),
            }
        }
        for row in rows.rows(OUTCOME).await? {
            index.close(&row.key);
        }
        for row in rows.rows(RECEIPT).await? {
            // Damaged or not, a receipt arrived for it: the request is not open.
            index.close(&row.key);
            match SignedReceipt::from_bytes(&row.body) {
                Ok(signed) => index.insert(&signed.receipt),
                Err(error) => {
                    tracing::error!(row = row.seq, request = row.key, %error, "a stored receipt is damaged; run `synctl billing verify`");
                }
            }
        }
        let keys = rows.rows(RECEIPT_KEY).await?.into_iter();
        let keys = keys.filter_map(|row| Some((row.key, row.body.try_into().ok()?))).collect();
        let pending = Arc::new(watch::Sender::new(index.pending_count()));
        let journal = Self {
            rows,
            index: Arc::new(Mutex::new(index)),
            keys: Arc::new(Mutex::new(keys)),
            receipts: Arc::default(),
            pending,
            released: Arc::default(),
        };
        Ok((journal, recovery))
    }

    /// Promises the intent to the disk. Only then may a byte leave.
    ///
    /// # Errors
    /// When the store cannot take it; then nothing may be sent.
    pub async fn begin(&self, intent: Intent) -> Result<OpenIntent, JournalError> {
        let body = serde_json::to_vec(&intent).map_err(JournalError::Encode)?;
        self.index().begin(intent.clone());
        // From here on the guard takes the mark away again, also when the write fails or the caller leaves.
        let open = OpenIntent { journal: self.clone(), intent };
        if let Err(error) = self.rows.append(INTENT, &open.intent.request_id, body).await {
            self.index().close(&open.intent.request_id);
            return Err(error.into());
        }
        self.publish();
        Ok(open)
    }

    /// Checks a receipt against its request, its signature and its neighbours, and stores it. Taking the same one
    /// again changes nothing.
    ///
    /// # Errors
    /// When it does not hold, or cannot be stored; its request stays open.
    pub async fn accept(&self, intent: &Intent, bytes: &[u8], keys: &KeyRing) -> Result<SignedReceipt, ReceiptError> {
        let signed = SignedReceipt::from_bytes(bytes).map_err(ReceiptError::Undecodable)?;
        keys.verify(&signed).map_err(ReceiptError::Signature)?;
        let receipt = &signed.receipt;
        if receipt.request_id != intent.request_id {
            return Err(ReceiptError::Mismatch("request"));
        }
        if receipt.device != intent.device_id {
            return Err(ReceiptError::Mismatch("device"));
        }
        if hex::encode(receipt.redacted_hash) != intent.redacted_hash {
            return Err(ReceiptError::Mismatch("prompt"));
        }
        if !receipt.charge().adds_up() {
            return Err(ReceiptError::Amounts);
        }
        let _one_at_a_time = self.receipts.lock().await;
        let known = self.index().check(receipt)?;
        if !known {
            self.rows.append(RECEIPT, &receipt.request_id, bytes.to_vec()).await.map_err(JournalError::Store)?;
            self.index().insert(receipt);
        }
        self.index().close(&receipt.request_id);
        self.publish();
        Ok(signed)
    }

    /// Closes a request that was not charged.
    ///
    /// # Errors
    /// When the store cannot take it; the request stays open.
    pub async fn close(&self, request_id: &str, outcome: OutcomeKind) -> Result<(), JournalError> {
        let body = serde_json::to_vec(&Outcome { outcome }).map_err(JournalError::Encode)?;
        self.rows.append(OUTCOME, request_id, body).await?;
        self.index().close(request_id);
        self.publish();
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
                self.rows.append(RECEIPT_KEY, &key.key_id, key.public_key).await?;
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

    /// What receipts issued on the UTC day of `now` sum up to. Saturates at the largest amount.
    pub fn spent_on_day_of(&self, now: SystemTime) -> NanoUsd {
        self.index().spent_on_day_of(now)
    }

    /// The stored receipts as they are on disk now, damaged ones included, in the order of the chain.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn receipts(&self) -> Result<Vec<Row>, JournalError> {
        let mut rows = self.rows.rows(RECEIPT).await?;
        // Receipts may arrive out of order; a row that cannot be read keeps its place after the one before it.
        let mut last = (0_usize, 0_u64);
        let mut devices: Vec<String> = Vec::new();
        rows.sort_by_cached_key(|row| {
            if let Ok(signed) = SignedReceipt::from_bytes(&row.body) {
                let device = signed.receipt.device;
                let era = devices.iter().position(|known| *known == device).unwrap_or_else(|| {
                    devices.push(device);
                    devices.len() - 1
                });
                last = (era, signed.receipt.seq);
            }
            last
        });
        Ok(rows)
    }

    /// Checks every row and link of the file as it is on disk now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn verify(&self) -> Result<Report, JournalError> {
        Ok(self.rows.verify().await?)
    }

    /// Set when the store takes no more writes.
    pub fn failure(&self) -> watch::Receiver<Option<StoreError>> {
        self.rows.failure()
    }

    /// Stores what is queued and closes the file.
    pub async fn shut(&self) {
        self.rows.close().await;
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

impl Drop for OpenIntent {
    fn drop(&mut self) {
        if self.journal.index().end(&self.intent.request_id) {
            self.journal.released.notify_one();
        }
    }
}
