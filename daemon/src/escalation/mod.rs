//! One prompt to the cloud and back: intent to disk, redacted bytes into the tunnel, deltas restored as they come,
//! the receipt checked and stored. What happens when any step of it dies is written beside the step.

mod error;
mod reconcile;
mod wire;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use synesis_ledger::{KeyRing, NanoUsd, SignedReceipt};
use synesis_mesh::device::TunnelHandle;
use synesis_mesh::identity::DeviceIdentity;
use synesis_mesh::kind::StreamKind;
use synesis_mesh::stream::{StreamHeader, WorkStream};
use synesis_privacy::{Redacted, Restorer};
use synesis_proto::mesh::v1::{AskDown, ask_down};
use tokio::sync::watch;
use tokio::time::timeout;
use ulid::Ulid;

use crate::ask::Sink;
use crate::budget::{Allowance, Budget};
use crate::journal::{DeviceJournal, Intent, OpenIntent, OutcomeKind};
use crate::log::chain;
pub use error::EscalationError;
pub use reconcile::Reconciler;
use wire::Encoded;
pub use wire::Wishes;

/// Longest silence between two frames. The gateway gives a provider 60 s to its first byte.
const SILENCE: Duration = Duration::from_secs(90);

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
}

/// A finished escalation.
#[derive(Debug, Clone)]
pub struct CloudAnswer {
    /// The model that answered.
    pub model: String,
    /// `stop`, `length`, `cancelled`.
    pub finish_reason: String,
    /// As charged.
    pub input_tokens: u32,
    /// As charged.
    pub output_tokens: u32,
    /// Verified and stored; none: it has not arrived, and is reconciled by request id.
    pub receipt: Option<SignedReceipt>,
    /// Placeholders in the answer that stand for nothing we hid.
    pub unknown_placeholders: u32,
}

impl Escalation {
    /// Sends `redacted` and streams the restored answer into `out`.
    ///
    /// Dropping the future cancels: the stream is reset, the gateway stops the provider at once and settles what was
    /// made, and the receipt is fetched by reconciliation.
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
        let spent = || self.journal.spent_on_day_of(SystemTime::now());
        let allowance = self.budget.ask(spent).await?;
        let encoded = Encoded::new(redacted);
        // A power cut from here on leaves a promise on the disk, and reconciliation asks the gateway about it.
        let open = self.journal.begin(intent(request_id, &identity, &encoded)).await?;
        audit(&open.intent, redacted);
        let stream = match self.tunnel.open(StreamHeader::new(StreamKind::Ask, request_id)).await {
            Ok(stream) => stream,
            Err(error) => {
                self.journal.close(&open.intent.request_id, OutcomeKind::NotSent).await?;
                return Err(error.into());
            }
        };
        let keys = key_ring(&identity);
        let asked = Asked { escalation: self, open, keys, restorer, model: String::new() };
        asked.converse(stream, encoded, wishes, allowance, out).await
    }
}

/// A request that is on its way.
struct Asked<'a> {
    escalation: &'a Escalation,
    open: OpenIntent,
    keys: KeyRing,
    restorer: Restorer,
    model: String,
}

impl Asked<'_> {
    async fn converse(
        mut self,
        mut stream: WorkStream,
        encoded: Encoded,
        wishes: Wishes,
        allowance: Allowance,
        out: &mut Sink,
    ) -> Result<CloudAnswer, EscalationError> {
        stream.tx.write(&encoded.start(wishes, allowance.most)).await?;
        let mut allowance = Some(allowance);
        let mut next_seq = 1;
        let mut finished = None;
        loop {
            let frame = match self.next(&mut stream).await {
                Ok(frame) => frame,
                // The whole answer is here and only the receipt is missing: it will be fetched.
                Err(error) if finished.is_some() => {
                    tracing::warn!(request = self.open.intent.request_id, %error, "the receipt did not arrive; it will be asked for");
                    break;
                }
                Err(error) => return Err(error),
            };
            match frame {
                ask_down::Message::Accepted(accepted) => {
                    if let Some(allowance) = allowance.take() {
                        allowance.held(&self.open.intent.request_id, NanoUsd::from_i64(accepted.held_nanousd));
                    }
                    self.model = accepted.model;
                }
                ask_down::Message::Delta(delta) => {
                    if delta.seq != next_seq || finished.is_some() {
                        return Err(EscalationError::Protocol("a part of the answer is missing or repeated"));
                    }
                    next_seq += 1;
                    out.push(self.restorer.push(&delta.text)).await?;
                }
                ask_down::Message::Finished(end) => {
                    if end.seq.saturating_add(1) != next_seq || finished.is_some() {
                        return Err(EscalationError::Protocol("the end of the answer does not fit its parts"));
                    }
                    out.push(self.restorer.finish()).await?;
                    finished = Some(end);
                }
                ask_down::Message::Receipt(receipt) => {
                    let Some(end) = finished else {
                        return Err(EscalationError::Protocol("a receipt came before the end of the answer"));
                    };
                    let receipt = self.take_receipt(&receipt.signed_receipt).await;
                    return Ok(self.answer(end, receipt));
                }
                ask_down::Message::Problem(problem) => {
                    // Before it was accepted nothing was held, and nothing will be charged.
                    if let Some(Allowance { most, .. }) = &allowance {
                        let error = EscalationError::refused(problem, *most);
                        self.escalation.journal.close(&self.open.intent.request_id, OutcomeKind::Refused).await?;
                        return Err(error);
                    }
                    return Err(EscalationError::from_problem(problem));
                }
            }
        }
        let end = finished.ok_or(EscalationError::Interrupted)?;
        Ok(self.answer(end, None))
    }

    async fn next(&self, stream: &mut WorkStream) -> Result<ask_down::Message, EscalationError> {
        let frame = timeout(SILENCE, stream.rx.read::<AskDown>()).await.map_err(|_| EscalationError::Silent)??;
        let frame = frame.ok_or(EscalationError::Interrupted)?;
        frame.message.ok_or(EscalationError::Protocol("a frame of an unknown kind"))
    }

    /// A receipt that does not hold is not shown as one: the request stays open, and the log says why.
    async fn take_receipt(&self, bytes: &[u8]) -> Option<SignedReceipt> {
        let Escalation { journal, budget, .. } = self.escalation;
        match journal.accept(&self.open.intent, bytes, &self.keys).await {
            Ok(signed) => {
                budget.settled(&self.open.intent.request_id);
                Some(signed)
            }
            Err(error) => {
                tracing::error!(request = self.open.intent.request_id, error = chain(&error), "a receipt was not accepted");
                None
            }
        }
    }

    fn answer(&self, end: synesis_proto::mesh::v1::AskFinished, receipt: Option<SignedReceipt>) -> CloudAnswer {
        CloudAnswer {
            model: self.model.clone(),
            finish_reason: end.reason,
            input_tokens: end.input_tokens,
            output_tokens: end.output_tokens,
            receipt,
            unknown_placeholders: self.restorer.unknown(),
        }
    }
}

fn intent(request_id: Ulid, identity: &DeviceIdentity, encoded: &Encoded) -> Intent {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Intent {
        request_id: request_id.to_string(),
        device_id: identity.device_id.to_string(),
        redacted_hash: encoded.hash_hex(),
        detector_version: encoded.detector_version().to_owned(),
        at_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
    }
}

/// One line per escalation: what kinds of things were hidden and how often, never what.
fn audit(intent: &Intent, redacted: &Redacted) {
    let counts: Vec<String> = redacted.counts().iter().map(|(kind, n)| format!("{kind}={n}")).collect();
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
