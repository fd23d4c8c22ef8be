//! What is said about one escalation: the request, its acceptance, the parts of the answer, its end, the receipt. When
//! the line is cut it goes on where it was. A frame that is out of order is an error, and every way out leaves the journal
//! right.

use std::time::Duration;

use bytes::Bytes;
use synesis_ledger::{KeyRing, NanoUsd, SignedReceipt};
use synesis_mesh::frame::FrameError;
use synesis_mesh::kind::ErrorCode;
use synesis_privacy::Restorer;
use synesis_proto::mesh::v1::ask_down::Message as Down;
use synesis_proto::mesh::v1::{AskAccepted, AskFinished, AskUp, Problem};
use tokio::time::timeout;

use super::line::{Line, is_cut};
use super::unwanted::UnderWay;
use super::wire::{Encoded, done};
use super::{CloudAnswer, EscalationError};
use crate::ask::Sink;
use crate::budget::Allowance;
use crate::journal::{DeviceJournal, OpenIntent, OutcomeKind};
use crate::log::chain;

/// The receipt has to follow the end of the answer within this time. Later it is fetched, and nobody waits for it.
const RECEIPT: Duration = Duration::from_secs(15);
/// The longest calls of tools, in bytes, as they come and as they are restored.
const LONGEST_CALLS: usize = 256 * 1024;

/// A request that is on its way.
pub(super) struct Asked<'a> {
    pub(super) journal: &'a DeviceJournal,
    /// Declared before `open`: reconciliation hears that the request was let go when it knows that nobody wants it.
    pub(super) under_way: UnderWay,
    pub(super) open: OpenIntent,
    /// Present until the gateway has accepted. Declared after `open`, so that a request that is given up counts with
    /// what it may cost before the next one may ask.
    pub(super) allowance: Option<Allowance>,
    pub(super) keys: KeyRing,
    pub(super) restorer: Restorer,
    pub(super) model: String,
    pub(super) request: Request,
    /// The number of the next frame of the answer.
    pub(super) next: u64,
}

/// What was asked, to be said again when it did not arrive.
pub(super) struct Request {
    pub(super) encoded: Encoded,
    pub(super) start: AskUp,
}

impl Asked<'_> {
    /// Says what is asked, and streams the restored answer into `out`.
    pub(super) async fn converse(
        mut self,
        mut line: Line<'_>,
        out: &mut Sink,
    ) -> Result<CloudAnswer, EscalationError> {
        self.begin(&mut line).await?;
        let end = self.answer(&mut line, out).await?;
        self.under_way.ended();
        let tool_calls = self.tool_calls(&end.tool_calls_json)?;
        let receipt = match self.receipt(&mut line).await {
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
        if line.resumed() > 0 {
            tracing::info!(request = self.request_id(), resumed = line.resumed(), "the answer is whole");
        }
        if receipt.is_some() {
            line.farewell(&done()).await;
        }
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
    pub(super) async fn close(&mut self, outcome: OutcomeKind) {
        self.under_way.ended();
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

    async fn begin(&mut self, line: &mut Line<'_>) -> Result<(), EscalationError> {
        match line.say(&self.request.start).await {
            // The gateway wants to hear no more. What it says itself tells why.
            Ok(()) | Err(FrameError::Reset(_)) => Ok(()),
            Err(FrameError::TooLarge { len, limit }) => {
                self.close(OutcomeKind::NotSent).await;
                Err(EscalationError::TooLong { bytes: len, limit })
            }
            Err(error) => self.go_on(line, error.into()).await,
        }
    }

    /// The next frame of the answer, over as many streams as it takes.
    async fn next(&mut self, line: &mut Line<'_>) -> Result<Down, EscalationError> {
        loop {
            let down = match line.read().await {
                Ok(down) => down,
                Err(error) => {
                    self.go_on(line, error).await?;
                    continue;
                }
            };
            let first_of_another = line.first_heard() && line.resumed() > 0;
            match down {
                Down::Problem(problem) => match ErrorCode::from_number(problem.code.into()) {
                    // Not of this request but of this moment: whatever it was, it goes on behind the door.
                    Some(ErrorCode::Draining | ErrorCode::RateLimited) if first_of_another => {
                        self.go_on(line, EscalationError::Interrupted).await?;
                    }
                    // An older gateway does not know the question.
                    Some(ErrorCode::BadFrame) if first_of_another && self.is_accepted() => {
                        return Err(EscalationError::Interrupted);
                    }
                    Some(ErrorCode::ResumeUnknown | ErrorCode::Superseded) => {
                        return Err(EscalationError::Interrupted);
                    }
                    _ => return Ok(Down::Problem(problem)),
                },
                // Said on every stream.
                Down::Accepted(again) if first_of_another && self.is_accepted() => {
                    if again.model != self.model {
                        return Err(EscalationError::Protocol("it goes on with another model's answer"));
                    }
                }
                down if first_of_another && !matches!(down, Down::Accepted(_)) => {
                    return Err(EscalationError::Protocol("an answer went on without its acceptance"));
                }
                down => return Ok(down),
            }
        }
    }

    /// Goes on after a cut, or gives up with the reason. What the gateway never answered is said again: it knows the
    /// request by its id if it heard it.
    async fn go_on(&self, line: &mut Line<'_>, error: EscalationError) -> Result<(), EscalationError> {
        if !is_cut(&error) {
            return Err(error);
        }
        match self.is_accepted() {
            true => line.resume(error, &self.request.encoded.resume(self.next)).await,
            false => line.resume(error, &self.request.start).await,
        }
    }

    fn is_accepted(&self) -> bool {
        self.allowance.is_none()
    }

    /// Up to the end of the answer.
    async fn answer(&mut self, line: &mut Line<'_>, out: &mut Sink) -> Result<AskFinished, EscalationError> {
        loop {
            match self.next(line).await? {
                Down::Accepted(accepted) => self.accepted(accepted)?,
                Down::Problem(problem) => return Err(self.refused(problem).await),
                _ if !self.is_accepted() => {
                    return Err(EscalationError::Protocol("an answer came before it was accepted"));
                }
                Down::Delta(delta) if delta.seq == self.next => {
                    self.next += 1;
                    out.push(self.restorer.push(&delta.text)).await?;
                }
                Down::Delta(_) => {
                    return Err(EscalationError::Protocol("a part of the answer is missing or repeated"));
                }
                Down::Finished(end) if end.seq + 1 == self.next => {
                    self.next += 1;
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
    async fn refused(&mut self, problem: Problem) -> EscalationError {
        // Whatever it is, the gateway works on it no more.
        self.under_way.ended();
        let Some(Allowance { most, .. }) = &self.allowance else {
            return EscalationError::from_problem(problem);
        };
        let most = *most;
        // One that is known may have been charged under the same id.
        if ErrorCode::from_number(problem.code.into()) != Some(ErrorCode::RequestKnown) {
            self.close(OutcomeKind::Refused).await;
        }
        EscalationError::refused(problem, most)
    }

    async fn receipt(&mut self, line: &mut Line<'_>) -> Result<Bytes, EscalationError> {
        let number = self.next;
        match timeout(RECEIPT, self.next(line)).await.map_err(|_| EscalationError::Silent)?? {
            // A gateway that keeps no answers does not number it.
            Down::Receipt(receipt) if receipt.seq == 0 || receipt.seq == number => Ok(receipt.signed_receipt),
            Down::Problem(problem) => Err(EscalationError::from_problem(problem)),
            Down::Receipt(_) | Down::Accepted(_) | Down::Delta(_) | Down::Finished(_) => Err(
                EscalationError::Protocol("something else than the receipt came after the end of the answer"),
            ),
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
