//! Receipts as they come from the daemon: bytes of the ledger's canonical encoding, or something damaged that can
//! still be named by its request.

use std::fmt;

use serde::Serialize;
use synesis_ledger::{Damaged, SignedReceipt};
use synesis_proto::control::v1::{StoredKind, StoredReceipt};

use crate::failure::Failure;

/// Reads the bytes of a receipt for `request_id`. Does not check the signature.
///
/// # Errors
/// What is wrong with them: they cannot be read, or are the receipt of another request.
pub(crate) fn decode(bytes: &[u8], request_id: &str) -> Result<SignedReceipt, Damaged> {
    let damaged = |fault: String| Damaged { request_id: request_id.to_owned(), fault };
    let signed = SignedReceipt::from_bytes(bytes)
        .map_err(|cause| damaged(format!("the receipt cannot be read: {cause}")))?;
    match signed.receipt.request_id == request_id {
        true => Ok(signed),
        false => Err(damaged(format!("it is the receipt of request {}", signed.receipt.request_id))),
    }
}

/// A row of the device's journal.
pub(crate) enum Stored {
    /// A receipt, or one that was.
    Receipt(Box<Result<SignedReceipt, Damaged>>),
    /// A request of this device whose receipt has not arrived yet.
    Open {
        /// The identity it was sent under.
        device: String,
    },
    /// Something else in the journal does not hold.
    Fault(Damaged),
}

impl From<StoredReceipt> for Stored {
    fn from(row: StoredReceipt) -> Self {
        match row.kind() {
            StoredKind::Receipt => Self::Receipt(Box::new(decode_row(row))),
            StoredKind::Open => Self::Open { device: row.device },
            StoredKind::Journal => {
                let fault = format!("row {} of the journal: {}", row.row, row.fault);
                Self::Fault(Damaged { request_id: row.request_id, fault })
            }
        }
    }
}

/// Reads a row of the device's journal. What the journal found wrong with the row counts first.
///
/// # Errors
/// What is wrong with the row.
fn decode_row(row: StoredReceipt) -> Result<SignedReceipt, Damaged> {
    match row.fault.is_empty() {
        true => decode(&row.signed_receipt, &row.request_id),
        false => Err(Damaged { request_id: row.request_id, fault: row.fault }),
    }
}

/// A receipt in the JSON output.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum ReceiptJson {
    /// The word `pending`: the answer is here, its receipt is not yet.
    Pending(&'static str),
    Signed(Box<SignedReceipt>),
    Damaged(DamagedJson),
}

/// In the place of a receipt that cannot be shown.
#[derive(Debug, Serialize)]
pub(crate) struct DamagedJson {
    schema: &'static str,
    request_id: String,
    fault: String,
}

impl fmt::Display for DamagedJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the receipt of request {} is damaged: {}", self.request_id, self.fault)
    }
}

impl ReceiptJson {
    pub(crate) fn pending() -> Self {
        Self::Pending("pending")
    }

    /// The failure of a command that had to show this receipt.
    pub(crate) fn fault(&self) -> Option<Failure> {
        match self {
            Self::Damaged(damaged) => Some(Failure::ReceiptDamaged(damaged.to_string())),
            Self::Pending(_) | Self::Signed(_) => None,
        }
    }

    /// What the answer cost, for people.
    pub(crate) fn cost(&self) -> String {
        match self {
            Self::Pending(_) => "receipt pending".to_owned(),
            Self::Signed(signed) => signed.receipt.net.to_string(),
            Self::Damaged(_) => "receipt damaged".to_owned(),
        }
    }
}

impl From<Result<SignedReceipt, Damaged>> for ReceiptJson {
    fn from(receipt: Result<SignedReceipt, Damaged>) -> Self {
        match receipt {
            Ok(signed) => Self::Signed(Box::new(signed)),
            Err(Damaged { request_id, fault }) => {
                Self::Damaged(DamagedJson { schema: "synesis.receipt_fault/1", request_id, fault })
            }
        }
    }
}
