//! Accounts, devices and the ledger behind one trait. The gateway keeps nothing of this itself, so another
//! implementation (a hosted one) can stand behind the same calls.

mod adapters;
mod clock;
mod error;
mod sqlite;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use synesis_ledger::{Account, NanoUsd, SignedReceipt, Tier};
use synesis_mesh::identity::{Fingerprint, ReceiptKey};
use ulid::Ulid;
use uuid::Uuid;

pub(crate) use adapters::{
    AdapterDigest, AdapterFacts, AdapterQuota, AdapterRecord, NewAdapter, RemovedAdapters, Wanted,
};
pub(crate) use clock::Clock;
pub(crate) use error::ControlError;
pub(crate) use sqlite::{SqliteControlPlane, SqliteSettings};

use crate::secret::Secret;

/// What the gateway asks of its control plane. [`reserve`](Self::reserve) and [`settle`](Self::settle) are one
/// transaction each: whatever runs beside them, an account never passes its ceiling, and a request is charged once.
#[async_trait]
pub(crate) trait ControlPlane: Send + Sync {
    async fn create_account(&self, new: NewAccount) -> Result<AccountRecord, ControlError>;

    /// A token for enrolling `uses` devices into the account (by name or id) within `ttl`.
    async fn create_token(
        &self,
        account: &str,
        ttl: Duration,
        uses: u32,
    ) -> Result<IssuedToken, ControlError>;

    /// Signs a device's key and uses the token up by one. A signing request that is not acceptable costs no use.
    async fn enrol(&self, token: &str, csr_der: &[u8], agent: &str) -> Result<Enrolment, ControlError>;

    /// Signs another key of a device. Who comes with an expired certificate has to name it: it is one that was signed here.
    async fn renew(
        &self,
        device: Uuid,
        csr_der: &[u8],
        expired_serial: Option<&str>,
    ) -> Result<Enrolment, ControlError>;

    /// Remembers which server CAs a device trusts.
    async fn pinned(&self, device: Uuid, pinned: &[Fingerprint]) -> Result<(), ControlError>;

    /// What every enrolled device depends on.
    async fn dependencies(&self) -> Result<Vec<Dependency>, ControlError>;

    /// Every device there ever was, oldest first.
    async fn devices(&self) -> Result<Vec<DeviceRecord>, ControlError>;

    async fn device(&self, id: Uuid) -> Result<DeviceRecord, ControlError>;

    /// Takes a device's identity back for good. Doing it again changes nothing.
    async fn revoke(&self, id: Uuid) -> Result<(), ControlError>;

    /// Remembers that the device was here now.
    async fn touch(&self, id: Uuid) -> Result<(), ControlError>;

    /// Holds the most that a request can cost.
    async fn reserve(&self, ask: Reserve) -> Result<Hold, ControlError>;

    /// Turns a hold into a charge and a signed receipt. Again for the same request: the same receipt.
    async fn settle(&self, usage: Settle) -> Result<Settled, ControlError>;

    /// Gives a hold back. For a request that holds nothing (any more), nothing happens.
    async fn release(&self, request: &RequestKey) -> Result<(), ControlError>;

    /// Gives back every hold that a former process left behind, and names them.
    async fn release_orphans(&self) -> Result<Vec<RequestKey>, ControlError>;

    async fn request_state(&self, request: &RequestKey) -> Result<RequestState, ControlError>;

    async fn balance(&self, device: Uuid) -> Result<Balance, ControlError>;

    /// The id of the account that a device belongs to.
    async fn account_of(&self, device: Uuid) -> Result<String, ControlError>;

    /// The adapters of the device's account by name, of one name the newest first.
    async fn adapters(&self, device: Uuid) -> Result<Vec<AdapterRecord>, ControlError>;

    /// One of them.
    async fn adapter(&self, device: Uuid, wanted: &Wanted) -> Result<AdapterRecord, ControlError>;

    /// Lists a file that is here. The same under the same name again changes nothing but its time.
    async fn record_adapter(
        &self,
        device: Uuid,
        new: NewAdapter,
        quota: AdapterQuota,
    ) -> Result<AdapterRecord, ControlError>;

    /// Forgets every content of a name, or one content under all its names.
    async fn remove_adapters(&self, device: Uuid, wanted: &Wanted) -> Result<RemovedAdapters, ControlError>;

    /// Bytes of the account's files beside the one with this digest.
    async fn adapter_bytes(&self, account: &str, beside: &AdapterDigest) -> Result<u64, ControlError>;

    /// Whether some name of the account means the file.
    async fn is_adapter_listed(&self, account: &str, digest: &AdapterDigest) -> Result<bool, ControlError>;

    /// The version of the prices in force.
    fn price_version(&self) -> u64;

    /// The keys that receipts are signed with.
    fn receipt_keys(&self) -> Vec<ReceiptKey>;
}

/// An account to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewAccount {
    pub(crate) name: String,
    pub(crate) tier: Tier,
    pub(crate) ceiling: Option<NanoUsd>,
    pub(crate) quota: Option<NanoUsd>,
}

/// An account as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccountRecord {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) tier: Tier,
    pub(crate) ceiling: Option<NanoUsd>,
    pub(crate) quota: Option<NanoUsd>,
}

/// A fresh token; only its hash is kept.
#[derive(Debug)]
pub(crate) struct IssuedToken {
    pub(crate) token: Secret,
    /// Unix epoch, milliseconds.
    pub(crate) expires_at_ms: i64,
}

/// A device that has just been enrolled.
#[derive(Debug)]
pub(crate) struct Enrolment {
    pub(crate) device: Uuid,
    pub(crate) account: String,
    pub(crate) trust_domain: String,
    /// DER, leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
    /// Unix epoch, seconds.
    pub(crate) not_after_s: i64,
}

/// The CAs an enrolled device depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// That signed its latest certificate.
    pub(crate) issuer: Fingerprint,
    /// That it said it trusts gateways of.
    pub(crate) pinned: Vec<Fingerprint>,
}

/// A device as the control plane knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceRecord {
    pub(crate) id: Uuid,
    /// The account's name.
    pub(crate) account: String,
    pub(crate) state: DeviceState,
    pub(crate) enrolled_at_ms: i64,
    pub(crate) last_seen_at_ms: Option<i64>,
}

/// Whether a device may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceState {
    Enrolled,
    Revoked,
}

impl DeviceState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Revoked => "revoked",
        }
    }
}

/// A request of one device. Devices choose the id, so it means nothing without the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RequestKey {
    pub(crate) device: Uuid,
    pub(crate) request_id: Ulid,
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.device, self.request_id)
    }
}

/// What a request can cost at most.
#[derive(Debug, Clone)]
pub(crate) struct Reserve {
    pub(crate) request: RequestKey,
    pub(crate) model: String,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    /// The device's own limit for this request.
    pub(crate) max_charge: Option<NanoUsd>,
}

/// What was set aside for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) amount: NanoUsd,
    pub(crate) price_version: u64,
}

/// What a request used in the end.
#[derive(Debug, Clone)]
pub(crate) struct Settle {
    pub(crate) request: RequestKey,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    /// Whether the provider counted; false: the gateway did, by its own rule.
    pub(crate) provider_counted: bool,
    /// The device's adapter generation when it asked.
    pub(crate) adapter_generation: u64,
    /// SHA-256 of the prompt bytes exactly as they came.
    pub(crate) redacted_hash: [u8; 32],
}

/// A charge that is final.
#[derive(Debug, Clone)]
pub(crate) struct Settled {
    pub(crate) receipt: SignedReceipt,
    /// Set when the usage came to more than was held and the charge was cut to the hold.
    pub(crate) cut: Option<Cut>,
}

/// A charge that would have passed its hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// What the reported usage would count; absent when it does not even fit an amount.
    pub(crate) reported: Option<NanoUsd>,
    pub(crate) held: NanoUsd,
}

/// How a request stands.
#[derive(Debug, Clone)]
pub(crate) enum RequestState {
    /// Never heard of, at least not from this device.
    Unknown,
    Held,
    /// The canonical bytes of the signed receipt.
    Settled(Vec<u8>),
    Released,
}

impl RequestState {
    /// The name on the wire (`ReceiptAnswer.state`).
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Held => "held",
            Self::Settled(_) => "settled",
            Self::Released => "released",
        }
    }
}

/// What an account may still spend.
#[derive(Debug, Clone)]
pub(crate) struct Balance {
    /// The account's name.
    pub(crate) account: String,
    pub(crate) money: Account,
}

#[cfg(test)]
pub(crate) mod tests;
