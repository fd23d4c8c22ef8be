//! One escalated prompt: hold the worst case, stream the provider's answer, settle what was used. Once something is
//! held, every way out of this file settles or releases it, a panic included.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use synesis_mesh::frame::{FrameError, FrameWriter};
use synesis_mesh::kind::ErrorCode;
use synesis_mesh::stream::{SendHalf, WorkStream};
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::ask_down::Message as Down;
use synesis_proto::mesh::v1::ask_up::Message as Up;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Services;
use super::asked::Asked;
use super::cancel::{Cancel, cancelled};
use super::end::End;
use super::meter::Meter;
use super::release::release;
use crate::control_plane::{ControlError, Hold, RequestKey, Reserve, Settle, Settled};
use crate::failure::chain;
use crate::problem;
use crate::providers::tools::ToolCall;
use crate::providers::{Event, Provider, ProviderError, Request};

/// The first frame has to follow the stream's header within this time.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// A device that does not take the last frames for this long is gone.
const FAREWELL: Duration = Duration::from_secs(10);

/// Serves one ask stream to its end.
pub(super) async fn serve(
    stream: WorkStream,
    device: Uuid,
    services: &Services,
    session_ends: CancellationToken,
) {
    let WorkStream { header, mut tx, mut rx } = stream;
    let key = RequestKey { device, request_id: header.request_id };
    let start = match timeout(START_TIMEOUT, rx.read::<v1::AskUp>()).await {
        Ok(Ok(Some(v1::AskUp { message: Some(Up::Start(start)) }))) => start,
        // Cancelled or lost before anything was asked: nothing to do, nobody to tell.
        Ok(Ok(Some(v1::AskUp { message: Some(Up::Cancel(_)) }))) => return,
        Ok(Err(FrameError::ConnectionLost(_) | FrameError::Reset(_))) => return,
        Ok(Err(error)) => {
            return refuse(&mut tx, error.code().problem(error.to_string(), "update the device")).await;
        }
        Ok(Ok(_)) => {
            return refuse(
                &mut tx,
                ErrorCode::BadFrame.problem("the stream has no request", "update the device"),
            )
            .await;
        }
        Err(_) => {
            let late = ErrorCode::DeadlineExceeded.problem("the request did not come in time", "try again");
            return refuse(&mut tx, late).await;
        }
    };
    let mut cancelled = pin!(cancelled(rx, tx.stopped(), header.timeout, session_ends));
    let ask = match prepare(key, start, services, cancelled.as_mut()).await {
        Ok(ask) => ask,
        Err(problem) => return refuse(&mut tx, problem).await,
    };
    let accepted = v1::AskAccepted {
        model: ask.asked.request.model.clone(),
        held_nanousd: ask.hold.amount.as_i64(),
        price_version: ask.hold.price_version,
    };
    let answered = async {
        let answer = ask.answer(accepted, &mut tx, cancelled).await;
        ask.conclude(&answer, &mut tx, services).await;
    };
    // Of what a panic can have left half done, only the hold and the stream are used again: the hold is the control
    // plane's, and whole; the stream ends with the next frame, readable or not.
    if AssertUnwindSafe(answered).catch_unwind().await.is_err() {
        tracing::error!(request = %key, "answering a request panicked; what it held is given back");
        release(&*services.plane, &key).await;
        refuse(
            &mut tx,
            ErrorCode::Internal.problem("the gateway failed while it was answering", "try again"),
        )
        .await;
    }
}

/// A request whose worst case is held.
struct Ask<'a> {
    key: RequestKey,
    asked: Asked,
    hold: Hold,
    provider: &'a dyn Provider,
}

/// Everything up to the hold. What is refused here costs nothing.
async fn prepare<'a>(
    key: RequestKey,
    start: v1::AskStart,
    services: &'a Services,
    cancelled: Pin<&mut impl Future<Output = Cancel>>,
) -> Result<Ask<'a>, v1::Problem> {
    let mut asked = Asked::read(key, start)?;
    let Some((model, provider)) = services.catalogue.resolve(&asked.request.model) else {
        let wanted: String = asked.request.model.chars().take(100).collect();
        let next_step = match services.catalogue.models() {
            models if models.is_empty() => "the gateway's operator has to configure a provider".to_owned(),
            models => format!("ask for one of: {}", models.join(", ")),
        };
        return Err(
            ErrorCode::ModelUnknown.problem(format!("no provider serves the model {wanted:?}"), next_step)
        );
    };
    model.clone_into(&mut asked.request.model);
    let input_tokens = tokio::select! {
        bound = provider.input_bound(&asked.request) => bound.map_err(|error| {
            tracing::warn!(request = %key, provider = provider.name(), class = error.class(), "provider failed");
            problem::of_provider(&error)
        })?,
        why = cancelled => return Err(End::Cancelled(why).problem()),
    };
    let reserve = Reserve {
        request: key,
        model: asked.request.model.clone(),
        input_tokens,
        output_tokens: asked.request.max_tokens.into(),
        max_charge: asked.max_charge,
    };
    // Not raced against a cancel: a hold that is being made is made, and is then ours to end.
    let hold = services.plane.reserve(reserve).await.map_err(|error| problem::of_control(&error))?;
    Ok(Ask { key, asked, hold, provider: provider.as_ref() })
}

/// An answer that has ended.
struct Answer {
    end: End,
    meter: Meter,
    last_seq: u64,
    /// Empty: the model calls no tools.
    calls: Vec<ToolCall>,
}

impl Ask<'_> {
    /// Streams the answer. Whatever ends it, the provider's side is dropped before this returns, which is how a
    /// cancel reaches the provider.
    async fn answer(
        &self,
        accepted: v1::AskAccepted,
        tx: &mut FrameWriter<SendHalf>,
        mut cancelled: Pin<&mut impl Future<Output = Cancel>>,
    ) -> Answer {
        let request: Request = self.asked.request.clone();
        let (mut meter, mut seq, mut called) = (Meter::new(&request), 0, Vec::new());
        let stream = async {
            send(tx, Down::Accepted(accepted)).await.map_err(|_| End::Cancelled(Cancel::Gone))?;
            let mut events = self.provider.stream(request).await.map_err(End::Failed)?;
            while let Some(event) = events.next().await {
                let event = event.map_err(End::Failed)?;
                meter.see(&event);
                match event {
                    Event::Delta { text, .. } => {
                        seq += 1;
                        let delta = Down::Delta(v1::AskDelta { seq, text });
                        send(tx, delta).await.map_err(|_| End::Cancelled(Cancel::Gone))?;
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
            why = cancelled.as_mut() => End::Cancelled(why),
            end = stream => end.err().unwrap_or(End::Failed(ProviderError::Truncated)),
        };
        Answer { end, meter, last_seq: seq, calls: called }
    }

    /// Settles or releases, and says goodbye.
    async fn conclude(&self, answer: &Answer, tx: &mut FrameWriter<SendHalf>, services: &Services) {
        let Answer { end, meter, last_seq, calls } = answer;
        self.log_failure(end);
        if !meter.produced() && !matches!(end, End::Finished(_)) {
            release(&*services.plane, &self.key).await;
            tracing::info!(request = %self.key, end = end.as_str(), "ask released");
            return refuse(tx, end.problem()).await;
        }
        let tokens = meter.tokens();
        let finished = Down::Finished(v1::AskFinished {
            seq: *last_seq,
            reason: end.as_str().to_owned(),
            input_tokens: u32::try_from(tokens.input).unwrap_or(u32::MAX),
            output_tokens: u32::try_from(tokens.output).unwrap_or(u32::MAX),
            provider_counted: tokens.provider_counted,
            tool_calls_json: written(calls),
        });
        let usage = Settle {
            request: self.key,
            input_tokens: tokens.input,
            output_tokens: tokens.output,
            provider_counted: tokens.provider_counted,
            adapter_generation: self.asked.adapter_generation,
            redacted_hash: self.asked.redacted_hash,
        };
        // The device's speed has no say in when the charge is final.
        let (_, settled) = tokio::join!(timeout(FAREWELL, send(tx, finished)), services.plane.settle(usage));
        let last = match settled {
            Ok(settled) => {
                self.log_charge(end, &settled);
                Down::Receipt(v1::AskReceipt { signed_receipt: settled.receipt.to_bytes().into() })
            }
            Err(error) => {
                self.log_unsettled(&error);
                Down::Problem(problem::of_control(&error))
            }
        };
        farewell(tx, last).await;
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

    fn log_charge(&self, end: &End, settled: &Settled) {
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

async fn send(tx: &mut FrameWriter<SendHalf>, message: Down) -> Result<(), FrameError> {
    tx.write(&v1::AskDown { message: Some(message) }).await
}

async fn refuse(tx: &mut FrameWriter<SendHalf>, problem: v1::Problem) {
    farewell(tx, Down::Problem(problem)).await;
}

/// The last frame and the end of the stream; a device that is gone misses them. Waits until both arrived: a session
/// that is closed right after this must not take the receipt with it.
async fn farewell(tx: &mut FrameWriter<SendHalf>, last: Down) {
    let goodbye = async {
        send(tx, last).await?;
        tx.finish().await?;
        tx.stopped().await;
        Ok::<(), FrameError>(())
    };
    if !matches!(timeout(FAREWELL, goodbye).await, Ok(Ok(()))) {
        tracing::debug!("the device did not wait for the end of the stream");
    }
}
