//! Receipts into the journal and out of it: each is checked against its request, its signature and its neighbours
//! before it is stored.

use synesis_ledger::{KeyRing, SignedReceipt, VerifyError};
use synesis_store::chain::Row;

use super::records::RECEIPT;
use super::{ChainFault, DeviceJournal, Intent, JournalError};

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

impl DeviceJournal {
    /// Checks a receipt against its request, its signature and its neighbours, and stores it. Taking the same one
    /// again changes nothing; a caller who leaves in the middle does not keep it from being stored.
    ///
    /// # Errors
    /// When it does not hold, or cannot be stored; its request stays open.
    pub async fn accept(
        &self,
        intent: &Intent,
        bytes: &[u8],
        keys: &KeyRing,
    ) -> Result<SignedReceipt, ReceiptError> {
        let accepted = self.take(intent, bytes, keys).await;
        match &accepted {
            Ok(_) => self.doubts.clear(&intent.request_id),
            // That one is fine; the disk is not, and says so itself.
            Err(ReceiptError::Journal(_)) => {}
            Err(error) => self.doubts.add(&intent.request_id, &format!("was not accepted: {error}")),
        }
        accepted
    }

    async fn take(
        &self,
        intent: &Intent,
        bytes: &[u8],
        keys: &KeyRing,
    ) -> Result<SignedReceipt, ReceiptError> {
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
        let mut storing = self.storing.lock().await;
        // One that was left behind comes first.
        while storing.join_next().await.is_some() {}
        if !self.index().check(receipt)? {
            storing.spawn(self.clone().store(signed.clone(), bytes.to_vec(), intent.at_ms));
            match storing.join_next().await {
                Some(Ok(stored)) => stored?,
                Some(Err(_)) | None => return Err(JournalError::Closing.into()),
            }
        }
        Ok(signed)
    }

    async fn store(
        self,
        signed: SignedReceipt,
        bytes: Vec<u8>,
        begun_at_ms: i64,
    ) -> Result<(), JournalError> {
        self.rows.open()?.append(RECEIPT, &signed.receipt.request_id, bytes).await?;
        self.index().settle(&signed.receipt, Some(begun_at_ms));
        self.publish();
        Ok(())
    }

    /// The stored receipts as they are on disk now, damaged ones included, in the order of the chain.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn receipts(&self) -> Result<Vec<Row>, JournalError> {
        let mut rows = self.rows.open()?.rows(RECEIPT).await?;
        for row in rows.iter().filter(|row| row.fault.is_some()) {
            self.doubts.add(&row.key, "is damaged on disk");
        }
        // Receipts may arrive out of order; a row that cannot be believed comes after the newest one before it.
        let mut newest = (0_usize, 0_u64);
        let mut devices: Vec<String> = Vec::new();
        rows.sort_by_cached_key(|row| {
            let (None, Ok(signed)) = (&row.fault, SignedReceipt::from_bytes(&row.body)) else {
                return newest;
            };
            let device = signed.receipt.device;
            let era = devices.iter().position(|known| *known == device).unwrap_or_else(|| {
                devices.push(device);
                devices.len() - 1
            });
            let place = (era, signed.receipt.seq);
            newest = newest.max(place);
            place
        });
        Ok(rows)
    }
}
