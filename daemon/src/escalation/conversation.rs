//! What is said on the stream of one escalation: the request, its acceptance, the parts of the answer, its end, the
//! receipt. A frame that is out of order is an error, and every way out leaves the journal right.

use std::time::Duration;

use bytes::Bytes;
use synesis_ledger::{KeyRing, NanoUsd, SignedReceipt};
use synesis_mesh::frame::FrameError;
use synesis_mesh::kind::ErrorCode;
use synesis_mesh::stream::WorkStream;
use synesis_privacy::Restorer;
use synesis_proto::mesh::v1::ask_down::Message as Down;
use synesis_proto::mesh::v1::{AskAccepted, AskDown, AskFinished, AskUp, Problem};
use tokio::time::timeout;

use super::{CloudAnswer, EscalationError};
use crate::ask::Sink;
use crate::budget::Allowance;
use crate::journal::{DeviceJournal, OpenIntent, OutcomeKind};
use crate::log::chain;

/// Longest silence between two frames. The gateway gives a provider 60 s to its first byte.
const SILENCE: Duration = Duration::from_secs(90);
/// The receipt has to follow the end of the answer within this time. Later it is fetched, and nobody waits for it.
const RECEIPT: Duration = Duration::from_secs(15);
/// The longest calls of tools, in bytes, as they come and as they are restored.
const LONGEST_CALLS: usize = 256 * 1024;

/// A request that is on its way.
pub(super) struct Asked<'a> {
    pub(super) journal: &'a DeviceJournal,
    pub(super) open: OpenIntent,
    /// Present until the gateway has accepted. Declared after `open`, so that a request that is given up counts with
    /// what it may cost before the next one may ask.
    pub(super) allowance: Option<Allowance>,
    pub(super) keys: KeyRing,
    pub(super) restorer: Restorer,
    pub(super) model: String,
}

impl Asked<'_> {
    /// Says `start`, and streams the restored answer into `out`.
    pub(super) async fn converse(
        mut self,
        mut stream: WorkStream,
        start: &AskUp,
        out: &mut Sink,
    ) -> Result<CloudAnswer, EscalationError> {
        self.send(&mut stream, start).await?;
        let end = self.answer(&mut stream, out).await?;
        let tool_calls = self.tool_calls(&end.tool_calls_json)?;
        let receipt = match self.receipt(&mut stream).await {
            Ok(bytes) => self.accept(&bytes).await,
            // The whole answer is here and only the receipt is missing: it will be fetched.
            Err(error) => {
                tracing::warn!(
                    request = self.request_id(),
                    error = chain(&error),
                    "the receipt did not arrive; it will be asked for"
                );
                None
            }
        };
        Ok(CloudAnswer {
            model: self.model,
            finish_reason: end.reason,
            input_tokens: end.input_tokens,
            output_tokens: end.output_tokens,
            receipt,
            unknown_placeholders: self.restorer.unknown(),
            tool_calls,
        })
    }

    /// Closes a request that will not be charged. If that cannot be stored it stays open, and is reconciled.
    pub(super) async fn close(&self, outcome: OutcomeKind) {
        if let Err(error) = self.journal.close(self.request_id(), outcome).await {
            tracing::error!(
                request = self.request_id(),
                error = chain(&error),
                "the journal does not take how a request ended"
            );
        }
    }

    fn request_id(&self) -> &str {
        &self.open.intent.request_id
    }

    async fn send(&self, stream: &mut WorkStream, start: &AskUp) -> Result<(), EscalationError> {
        match stream.tx.write(start).await {
            Ok(()) => Ok(()),
            Err(FrameError::TooLarge { len, limit }) => {
                self.close(OutcomeKind::NotSent).await;
                Err(EscalationError::TooLong { bytes: len, limit })
            }
            // The gateway wants to hear no more. What it says itself tells why.
            Err(FrameError::Reset(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Up to the end of the answer.
    async fn answer(
        &mut self,
        stream: &mut WorkStream,
        out: &mut Sink,
    ) -> Result<AskFinished, EscalationError> {
        let mut last_seq = 0;
        loop {
            match next(stream).await? {
                Down::Accepted(accepted) => self.accepted(accepted)?,
                Down::Problem(problem) => return Err(self.refused(problem).await),
                _ if self.allowance.is_some() => {
                    return Err(EscalationError::Protocol("an answer came before it was accepted"));
                }
                Down::Delta(delta) if delta.seq == last_seq + 1 => {
                    last_seq = delta.seq;
                    out.push(self.restorer.push(&delta.text)).await?;
                }
                Down::Delta(_) => {
                    return Err(EscalationError::Protocol("a part of the answer is missing or repeated"));
                }
                Down::Finished(end) if end.seq == last_seq => {
                    out.push(self.restorer.finish()).await?;
                    return Ok(end);
                }
                Down::Finished(_) => {
                    return Err(EscalationError::Protocol("the end of the answer does not fit its parts"));
                }
                Down::Receipt(_) => {
                    return Err(EscalationError::Protocol("a receipt came before the end of the answer"));
                }
            }
        }
    }

    /// With the values back in, escaped for where they stand; none: the model calls nothing.
    fn tool_calls(&mut self, calls: &str) -> Result<Option<String>, EscalationError> {
        const TOO_LONG: EscalationError = EscalationError::Protocol("the calls of tools are too long");
        if calls.is_empty() {
            return Ok(None);
        }
        if calls.len() > LONGEST_CALLS {
            return Err(TOO_LONG);
        }
        let unreadable = |_| EscalationError::Protocol("the calls of tools are no JSON");
        let calls = self.restorer.restore_json(calls).map_err(unreadable)?;
        if calls.len() > LONGEST_CALLS { Err(TOO_LONG) } else { Ok(Some(calls)) }
    }

    /// The next request may ask now: this one counts with what the gateway promised.
    fn accepted(&mut self, accepted: AskAccepted) -> Result<(), EscalationError> {
        let held = NanoUsd::from_i64(accepted.held_nanousd);
        if held.is_negative() {
            return Err(EscalationError::Protocol("what it holds is negative"));
        }
        let Some(Allowance { most, .. }) = &self.allowance else {
            return Err(EscalationError::Protocol("the request was accepted twice"));
        };
        // A hold may be larger than any charge: on the free tier it is quota, not money.
        self.open.promised(most.map_or(held, |most| most.min(held)));
        self.allowance = None;
        self.model = accepted.model;
        Ok(())
    }

    /// Before it was accepted nothing was held, and nothing will be charged; later, reconciliation hears what was.
    async fn refused(&self, problem: Problem) -> EscalationError {
        let Some(Allowance { most, .. }) = &self.allowance else {
            return EscalationError::from_problem(problem);
        };
        // One that is known may have been charged under the same id.
        if ErrorCode::from_number(problem.code.into()) != Some(ErrorCode::RequestKnown) {
            self.close(OutcomeKind::Refused).await;
        }
        EscalationError::refused(problem, *most)
    }

    async fn receipt(&self, stream: &mut WorkStream) -> Result<Bytes, EscalationError> {
        match timeout(RECEIPT, next(stream)).await.map_err(|_| EscalationError::Silent)?? {
            Down::Receipt(receipt) => Ok(receipt.signed_receipt),
            Down::Problem(problem) => Err(EscalationError::from_problem(problem)),
            Down::Accepted(_) | Down::Delta(_) | Down::Finished(_) => Err(EscalationError::Protocol(
                "something else than the receipt came after the end of the answer",
            )),
        }
    }

    /// A receipt that does not hold is not shown as one: the request stays open, and the log says why.
    async fn accept(&self, bytes: &[u8]) -> Option<SignedReceipt> {
        match self.journal.accept(&self.open.intent, bytes, &self.keys).await {
            Ok(signed) => Some(signed),
            Err(error) => {
                tracing::error!(
                    request = self.request_id(),
                    error = chain(&error),
                    "a receipt was not accepted"
                );
                None
            }
        }
    }
}

/// The next frame. A gateway that does not know what the stream is for answers with a bare problem.
async fn next(stream: &mut WorkStream) -> Result<Down, EscalationError> {
    match timeout(SILENCE, stream.rx.read::<AskDown>()).await.map_err(|_| EscalationError::Silent)? {
        Ok(Some(frame)) => frame.message.ok_or(EscalationError::Protocol("a frame of an unknown kind")),
        Ok(None) => Err(EscalationError::Interrupted),
        Err(FrameError::Refused(problem)) => Ok(Down::Problem(problem)),
        Err(error) => Err(error.into()),
    }
}
