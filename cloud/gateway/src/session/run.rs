//! The making of one answer: hold the worst case, stream the provider's answer, settle what was used. Once something is
//! held, every way out of this file settles or releases it, a panic included. No stream belongs to it.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use synesis_mesh::kind::ErrorCode;
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::ask_down::Message as Down;
use tokio::time::{Instant, sleep_until};

use super::Services;
use super::asked::Asked;
use super::end::End;
use super::meter::Meter;
use super::release::release;
use crate::answers::{Answer, Cancel, Ended};
use crate::control_plane::{ControlError, Hold, RequestKey, Reserve, Settle, Settled, Wanted};
use crate::failure::chain;
use crate::problem;
use crate::providers::tools::ToolCall;
use crate::providers::{AdapterFile, AdapterPin, Event, Provider, ProviderError, Request};

/// A day is longer than any answer; a deadline that does not fit the clock is none.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Makes the answer to `start` within `time`, and ends `answer` whatever happens.
pub(super) async fn run(
    key: RequestKey,
    start: v1::AskStart,
    time: Option<Duration>,
    services: Arc<Services>,
    answer: Arc<Answer>,
) {
    let until = Instant::now() + time.unwrap_or(LONGEST).min(LONGEST);
    let made = make(key, start, until, &services, &answer);
    // Of what a panic can have left half done, only the hold and the answer are used again: the hold is the control
    // plane's, and whole; the answer is changed under its lock, a frame at a time.
    if AssertUnwindSafe(made).catch_unwind().await.is_err() {
        tracing::error!(request = %key, "answering a request panicked; what it held is given back");
        release(&*services.plane, &key).await;
        fail(&answer, ErrorCode::Internal.problem("the gateway failed while it was answering", "try again"));
    }
}

async fn make(key: RequestKey, start: v1::AskStart, until: Instant, services: &Services, answer: &Answer) {
    let unwanted = async {
        tokio::select! {
            why = answer.unwanted(services.answers.grace()) => why,
            () = sleep_until(until) => Cancel::Deadline,
        }
    };
    let mut unwanted = pin!(unwanted);
    let (ask, request) = match prepare(key, start, services, unwanted.as_mut()).await {
        Ok(prepared) => prepared,
        Err(problem) => return fail(answer, problem),
    };
    answer.accept(v1::AskAccepted {
        model: request.model.clone(),
        held_nanousd: ask.hold.amount.as_i64(),
        price_version: ask.hold.price_version,
    });
    let made = ask.make(request, answer, unwanted).await;
    ask.conclude(&made, answer, services).await;
}

fn fail(answer: &Answer, problem: v1::Problem) {
    answer.end(|_| Down::Problem(problem), Ended::Free);
}

/// A request whose worst case is held.
struct Ask<'a> {
    key: RequestKey,
    adapter_generation: u64,
    redacted_hash: [u8; 32],
    hold: Hold,
    provider: &'a dyn Provider,
}

/// Everything up to the hold. What is refused here costs nothing.
async fn prepare<'a>(
    key: RequestKey,
    start: v1::AskStart,
    services: &'a Services,
    mut unwanted: Pin<&mut impl Future<Output = Cancel>>,
) -> Result<(Ask<'a>, Request), v1::Problem> {
    let Asked { mut request, redacted_hash, adapter_generation, adapter, max_charge } =
        Asked::read(key, start)?;
    let Some((model, provider)) = services.catalogue.resolve(&request.model) else {
        let wanted: String = request.model.chars().take(100).collect();
        let next_step = match services.catalogue.models() {
            models if models.is_empty() => "the gateway's operator has to configure a provider".to_owned(),
            models => format!("ask for one of: {}", models.join(", ")),
        };
        return Err(
            ErrorCode::ModelUnknown.problem(format!("no provider serves the model {wanted:?}"), next_step)
        );
    };
    model.clone_into(&mut request.model);
    if let Some(wanted) = adapter {
        request.adapter = Some(tokio::select! {
            pinned = pin_adapter(&key, &wanted, provider.as_ref(), services) => pinned?,
            why = unwanted.as_mut() => return Err(End::Cancelled(why).problem()),
        });
    }
    let input_tokens = tokio::select! {
        bound = provider.input_bound(&request) => bound.map_err(|error| {
            services.metrics.provider_errors.count(error.class());
            tracing::warn!(request = %key, provider = provider.name(), class = error.class(), "provider failed");
            problem::of_provider(&error)
        })?,
        why = unwanted => return Err(End::Cancelled(why).problem()),
    };
    let reserve = Reserve {
        request: key,
        model: request.model.clone(),
        input_tokens,
        output_tokens: request.max_tokens.into(),
        max_charge,
    };
    // Not raced against a cancel: a hold that is being made is made, and is then ours to end.
    let hold = services.plane.reserve(reserve).await.map_err(|error| problem::of_control(&error))?;
    Ok((Ask { key, adapter_generation, redacted_hash, hold, provider: provider.as_ref() }, request))
}

/// The adapter that the device means, ready to answer with.
async fn pin_adapter(
    key: &RequestKey,
    wanted: &Wanted,
    provider: &dyn Provider,
    services: &Services,
) -> Result<AdapterPin, v1::Problem> {
    let found = services.adapters.find(key.device, wanted).await;
    let (record, path) = found.map_err(|error| error.problem())?;
    let (name, sha256) = (&record.adapter.name, &record.adapter.sha256);
    match provider.pin_adapter(&AdapterFile::new(&record, path)).await {
        Ok(pin) => {
            tracing::info!(request = %key, adapter = name, %sha256, "ask with an adapter");
            Ok(pin)
        }
        Err(error) => {
            let (provider, class) = (provider.name(), error.class());
            tracing::warn!(request = %key, adapter = name, %sha256, provider, class, "adapter not usable");
            Err(problem::of_provider(&error))
        }
    }
}

/// What was made of an answer.
struct Made {
    end: End,
    meter: Meter,
    last_seq: u64,
    /// Empty: the model calls no tools.
    calls: Vec<ToolCall>,
}

impl Ask<'_> {
    /// Makes the answer. Whatever ends it, the provider's side is dropped before this returns, which is how a cancel
    /// reaches the provider.
    async fn make(
        &self,
        request: Request,
        answer: &Answer,
        mut unwanted: Pin<&mut impl Future<Output = Cancel>>,
    ) -> Made {
        let (mut meter, mut seq, mut called) = (Meter::new(&request), 0, Vec::new());
        let stream = async {
            let mut events = self.provider.stream(request).await.map_err(End::Failed)?;
            while let Some(event) = events.next().await {
                let event = event.map_err(End::Failed)?;
                meter.see(&event);
                match event {
                    Event::Delta { text, .. } => {
                        seq += 1;
                        let pushed = answer.push(v1::AskDelta { seq, text }).await;
                        pushed.map_err(|_| End::Cancelled(Cancel::Protocol))?;
                    }
                    Event::Usage { .. } => {}
                    Event::ToolCalls(calls) => called = calls,
                    Event::Finished { reason } => return Err(End::Finished(reason)),
                }
            }
            Err::<(), End>(End::Failed(ProviderError::Truncated))
        };
        let end = tokio::select! {
            biased;
            why = unwanted.as_mut() => End::Cancelled(why),
            end = stream => end.err().unwrap_or(End::Failed(ProviderError::Truncated)),
        };
        Made { end, meter, last_seq: seq, calls: called }
    }

    /// Settles or releases, and ends the answer.
    async fn conclude(&self, made: &Made, answer: &Answer, services: &Services) {
        let Made { end, meter, last_seq, calls } = made;
        if let End::Failed(error) = end {
            services.metrics.provider_errors.count(error.class());
        }
        self.log_failure(end);
        if !meter.produced() && !matches!(end, End::Finished(_)) {
            release(&*services.plane, &self.key).await;
            tracing::info!(request = %self.key, end = end.as_str(), "ask released");
            return fail(answer, end.problem());
        }
        let tokens = meter.tokens();
        let finished = v1::AskFinished {
            seq: *last_seq,
            reason: end.as_str().to_owned(),
            input_tokens: u32::try_from(tokens.input).unwrap_or(u32::MAX),
            output_tokens: u32::try_from(tokens.output).unwrap_or(u32::MAX),
            provider_counted: tokens.provider_counted,
            tool_calls_json: written(calls),
        };
        // Whoever reads has the end of the text while it is settled.
        let told = answer.finish(finished);
        let usage = Settle {
            request: self.key,
            input_tokens: tokens.input,
            output_tokens: tokens.output,
            provider_counted: tokens.provider_counted,
            adapter_generation: self.adapter_generation,
            redacted_hash: self.redacted_hash,
        };
        match services.plane.settle(usage).await {
            Ok(settled) => {
                self.log_charge(end, &settled, answer);
                let signed_receipt = settled.receipt.to_bytes().into();
                let last = |seq| match told {
                    Ok(()) => Down::Receipt(v1::AskReceipt { signed_receipt, seq }),
                    Err(error) => Down::Problem(error.code().problem("the calls of tools are too long", "")),
                };
                answer.end(last, Ended::Charged);
            }
            Err(error) => {
                self.log_unsettled(&error);
                fail(answer, problem::of_control(&error));
            }
        }
    }

    fn log_failure(&self, end: &End) {
        if let End::Failed(error) = end {
            let (provider, class) = (self.provider.name(), error.class());
            let status = error.status();
            if matches!(error, ProviderError::Credentials { .. }) {
                tracing::error!(request = %self.key, provider, status, "the provider does not accept our key");
            } else {
                tracing::warn!(request = %self.key, provider, class, status, "provider failed");
            }
        }
    }

    fn log_charge(&self, end: &End, settled: &Settled, answer: &Answer) {
        if let Some(cut) = settled.cut {
            let reported = cut.reported.map(|amount| amount.as_i64());
            tracing::warn!(
                request = %self.key,
                reported_nanousd = reported,
                held_nanousd = cut.held.as_i64(),
                "usage above the hold; the charge was cut to it"
            );
        }
        let receipt = &settled.receipt.receipt;
        let cancelled = match end {
            End::Cancelled(why) => Some(why.as_str()),
            End::Finished(_) | End::Failed(_) => None,
        };
        tracing::info!(
            request = %self.key,
            model = receipt.model,
            provider = self.provider.name(),
            end = end.as_str(),
            cancelled,
            input_tokens = receipt.input_tokens,
            output_tokens = receipt.output_tokens,
            net_nanousd = receipt.net.as_i64(),
            receipt = receipt.seq,
            streams = answer.readers(),
            "ask settled"
        );
    }

    fn log_unsettled(&self, error: &ControlError) {
        tracing::error!(request = %self.key, error = chain(error), "an answer could not be settled; its hold is released at the next start");
    }
}

fn written(calls: &[ToolCall]) -> String {
    if calls.is_empty() { String::new() } else { ToolCall::write_all(calls).to_string() }
}
