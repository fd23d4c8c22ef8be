//! The rows of the journal besides receipts, as JSON. A field is never renamed: rows live as long as the device.

use serde::{Deserialize, Serialize};

pub(super) const INTENT: &str = "intent";
pub(super) const RECEIPT: &str = "receipt";
pub(super) const OUTCOME: &str = "outcome";
/// Key: its id; body: the 32 bytes of an Ed25519 public key.
pub(super) const RECEIPT_KEY: &str = "receipt_key";

/// Written before an escalation is sent: enough to ask for its receipt later, nothing of its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// ULID.
    pub request_id: String,
    /// The identity it is sent under.
    pub device_id: String,
    /// SHA-256 of the redacted bytes, hexadecimal.
    pub redacted_hash: String,
    /// The rules they were redacted with.
    pub detector_version: String,
    /// When, in milliseconds of the Unix epoch, by this device's clock.
    pub at_ms: i64,
    /// The most it may be charged, in nano-dollars; none: this device had no limit. What is promised to an open request
    /// counts against the daily limit, also after a power cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_nanousd: Option<i64>,
}

/// How a request ended that has no receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// It never left the device.
    NotSent,
    /// The gateway refused it before it held any money.
    Refused,
    /// The gateway gave its hold back.
    Released,
    /// The gateway never heard of it.
    NeverArrived,
    /// Nobody can ask the gateway about it any more: the identity it was sent under is gone. It may have been charged.
    Abandoned,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) outcome: OutcomeKind,
}
