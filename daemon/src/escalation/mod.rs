//! One prompt to the cloud and back: intent to disk, redacted bytes into the tunnel, deltas restored as they come,
//! the receipt checked and stored. What happens when any step of it dies is written beside the step.

mod conversation;
mod error;
mod line;
mod reconcile;
mod unwanted;
mod wire;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use synesis_ledger::{KeyRing, NanoUsd, SignedReceipt};
use synesis_mesh::device::TunnelHandle;
use synesis_mesh::identity::DeviceIdentity;
use synesis_privacy::{Redacted, Restorer};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use ulid::Ulid;

use crate::ask::Sink;
use crate::budget::Budget;
use crate::journal::{DeviceJournal, Intent, OutcomeKind};
use conversation::{Asked, Request};
pub use error::EscalationError;
use line::Line;
pub use reconcile::Reconciler;
pub use unwanted::Unwanted;
use wire::Encoded;
pub use wire::{PushedAdapter, Wishes};

/// For a whole request. The gateway is told, so that it does not work for longer than anybody waits.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// What an escalation needs of the daemon. Clones share everything.
#[derive(Debug, Clone)]
pub struct Escalation {
    /// The way out.
    pub tunnel: TunnelHandle,
    /// Who this device is.
    pub identity: watch::Receiver<Option<Arc<DeviceIdentity>>>,
    /// Promises and receipts.
    pub journal: DeviceJournal,
    /// The device's own limit.
    pub budget: Budget,
    /// What happens when the tunnel is lost in the middle.
    pub resume: Resume,
}

/// How an answer survives the tunnel.
#[derive(Debug, Clone)]
pub struct Resume {
    /// How long an answer that was cut off waits for the tunnel.
    pub window: Duration,
    /// What was given up while the gateway could not be told.
    pub unwanted: Unwanted,
}

impl Resume {
    /// With the configured wait.
    pub fn within(window: Duration) -> Self {
        Self { window, unwanted: Unwanted::default() }
    }
}

/// A finished escalation.
#[derive(Debug, Clone)]
pub struct CloudAnswer {
    /// The model that answered.
    pub model: String,
    /// `stop`, `length`, `tool_calls`, `cancelled`, `provider_error`.
    pub finish_reason: String,
    /// As charged.
    pub input_tokens: u32,
    /// As charged.
    pub output_tokens: u32,
    /// Verified and stored; none: it has not arrived, and is reconciled by request id.
    pub receipt: Option<SignedReceipt>,
    /// Placeholders in the answer that stand for nothing we hid.
    pub unknown_placeholders: u32,
    /// The calls of tools in the answer, restored: the array of the OpenAI API, as JSON.
    pub tool_calls: Option<String>,
}

impl Escalation {
    /// Sends `redacted` and streams the restored answer into `out`.
    ///
    /// A tunnel that is lost in the middle is waited for, and the answer goes on where it was.
    ///
    /// Dropping the future cancels: the stream is reset, the gateway stops the provider at once and settles what was
    /// made, and the receipt is fetched by reconciliation. If there is no stream at that moment, the gateway hears it on the
    /// next connection.
    ///
    /// # Errors
    /// See [`EscalationError`]. What was sent stays open in the journal until the gateway has said what became of it.
    pub async fn run(
        &self,
        request_id: Ulid,
        redacted: &Redacted,
        restorer: Restorer,
        wishes: Wishes,
        out: &mut Sink,
    ) -> Result<CloudAnswer, EscalationError> {
        let identity = self.identity.borrow().clone().ok_or(EscalationError::NotEnrolled)?;
        let allowance = self.budget.ask(|| self.journal.committed(SystemTime::now())).await?;
        let most = allowance.most;
        let encoded = Encoded::new(redacted, &wishes);
        // A power cut from here on leaves a promise on the disk, and reconciliation asks the gateway about it.
        let open = self.journal.begin(intent(request_id, &identity, &encoded, most)).await?;
        audit(&open.intent, redacted, &wishes);
        let keys = key_ring(&identity);
        let start = encoded.start(&wishes, most);
        let mut asked = Asked {
            journal: &self.journal,
            under_way: self.resume.unwanted.under_way(&open.intent.request_id),
            open,
            allowance: Some(allowance),
            keys,
            restorer,
            model: String::new(),
            request: Request { encoded, start },
            next: 1,
        };
        let until = Instant::now() + LONGEST;
        match Line::open(&self.tunnel, request_id, until, self.resume.window).await {
            Ok(line) => {
                let answer = timeout_at(until, asked.converse(line, out)).await;
                answer.unwrap_or(Err(EscalationError::TooSlow(LONGEST)))
            }
            Err(error) => {
                asked.close(OutcomeKind::NotSent).await;
                Err(error)
            }
        }
    }
}

fn intent(request_id: Ulid, identity: &DeviceIdentity, encoded: &Encoded, most: Option<NanoUsd>) -> Intent {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Intent {
        request_id: request_id.to_string(),
        device_id: identity.device_id.to_string(),
        redacted_hash: encoded.hash_hex(),
        detector_version: encoded.detector_version().to_owned(),
        at_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        most_nanousd: most.map(NanoUsd::as_i64),
    }
}

/// One line per escalation: what kinds of things were hidden and how often, never what.
fn audit(intent: &Intent, redacted: &Redacted, wishes: &Wishes) {
    let mut counts = redacted.counts().clone();
    for (kind, n) in [&wishes.tools, &wishes.json_schema].into_iter().flatten().flat_map(|json| json.counts())
    {
        *counts.entry(*kind).or_insert(0) += n;
    }
    let counts: Vec<String> = counts.iter().map(|(kind, n)| format!("{kind}={n}")).collect();
    tracing::info!(
        request = intent.request_id,
        hidden = counts.join(" "),
        redacted_sha256 = intent.redacted_hash,
        detectors = intent.detector_version,
        "escalating"
    );
}

/// The keys pinned at enrolment. One that is unusable is left out, and its receipts then do not verify.
fn key_ring(identity: &DeviceIdentity) -> KeyRing {
    let mut keys = KeyRing::new();
    for key in &identity.receipt_keys {
        if let Err(error) = keys.insert(key.public_key) {
            tracing::error!(key = key.key_id, %error, "a receipt key of this device's identity is unusable; enrol again");
        }
    }
    keys
}
