//! Why the control plane says no.

use synesis_ledger::{KeyError, NanoUsd, Overflow, Refused, SettleError};
use synesis_mesh::identity::IdentityError;
use synesis_store::StoreError;

use super::AdapterQuota;

/// A refused or failed call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("an account named {0:?} exists already")]
    AccountExists(String),
    #[error("{0:?} is no account name: 1 to 64 characters, none of them a control character")]
    AccountName(String),
    #[error("there is no account {0:?}")]
    AccountUnknown(String),
    #[error("the gateway has no record of this device")]
    DeviceUnknown,
    #[error("this device's identity was taken back")]
    DeviceRevoked,
    #[error("the gateway has no record of this certificate")]
    CertificateUnknown,
    #[error("this device was given {0} certificates within a day")]
    RenewedTooOften(i64),
    #[error("the gateway did not issue this token")]
    TokenInvalid,
    #[error("this enrolment token has expired")]
    TokenExpired,
    #[error("this enrolment token is used up")]
    TokenUsed,
    #[error("the signing request is not acceptable")]
    Csr(#[source] IdentityError),
    #[error("there is no price for the model {0:?}")]
    NoPrice(String),
    #[error("a request with this id is {state} already")]
    RequestKnown { state: &'static str },
    #[error("this request holds nothing")]
    NotHeld,
    #[error("up to {worst_case} could be charged, and the device allows {allowed}")]
    OverDeviceLimit { worst_case: NanoUsd, allowed: NanoUsd },
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the ledger and its holds disagree")]
    Settle(#[from] SettleError),
    #[error("an amount is out of range")]
    Overflow(#[from] Overflow),
    #[error("this account has no adapter {0} at the gateway")]
    AdapterUnknown(String),
    #[error("{}", over_quota(*.needed, *.used, .quota))]
    AdapterQuota { needed: u64, used: u64, quota: AdapterQuota },
    #[error("the certificate cannot be made")]
    Certificate(#[source] IdentityError),
    #[error("the receipt key is not usable")]
    ReceiptKey(#[from] KeyError),
    #[error("the operating system gave no random bytes")]
    Random(#[source] getrandom::Error),
    /// A row that this code did not write.
    #[error("the store holds something it should not: {0}")]
    Corrupt(String),
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the store failed")]
    Sqlite(#[from] rusqlite::Error),
}

fn over_quota(needed: u64, used: u64, quota: &AdapterQuota) -> String {
    if used.saturating_add(needed) > quota.bytes {
        format!(
            "the adapter takes {needed} bytes, and {used} of the {} bytes of this account are taken",
            quota.bytes
        )
    } else {
        format!("this account has {} adapters already, which is the most", quota.entries)
    }
}
