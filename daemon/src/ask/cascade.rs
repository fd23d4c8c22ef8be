//! The way through local model and cloud: the record of the decision says where to go next, and each place either
//! answers or adds the evidence that changes the decision. Nothing reaches the caller before it is clear who answers.

use std::time::Duration;

use synesis_privacy::Message;
use synesis_proto::reason;
use synesis_proto::runtime::v1::Finished;
use ulid::Ulid;

use super::local::{Ran, Step, Watched};
use super::{Ask, AskError, Asker, Delta, Done, Route, Sink, Turn};
use crate::decisions::Case;
use crate::escalation::EscalationError;
use crate::log::chain;
use crate::model::ModelError;
use crate::route::{Cascade, Decision, Evidence, LocalWhy, cascade, ppm};

/// A local answer that is complete and was not shown.
struct Whole {
    pieces: Vec<Delta>,
    end: Finished,
    ran: Ran,
}

/// What came of asking the local model.
enum Tried {
    Answered(Box<Done>),
    /// The decision is another one now. The answer, when it was complete, is kept: the cloud may fail.
    Doubted(Option<Whole>),
}

impl Asker {
    /// Follows the decision until somebody has answered.
    pub(super) async fn pursue(
        &self,
        id: Ulid,
        ask: &Ask,
        mut turn: Turn,
        case: &mut Case,
        sink: &mut Sink,
    ) -> Result<(Turn, Done), AskError> {
        let mut kept = None;
        // Each round adds evidence, and a failed escalation is the last there is: at most three rounds.
        loop {
            match case.decision() {
                Decision::Refuse(why) => return Err(self.refusal(why)),
                Decision::Local(_) if let Some(whole) = kept.take() => {
                    let done = show(whole, case, sink).await?;
                    return Ok((turn, done));
                }
                Decision::Local(_) => match self.try_local(id, ask, &turn.messages, case, sink).await? {
                    Tried::Answered(done) => return Ok((turn, *done)),
                    Tried::Doubted(whole) => kept = whole,
                },
                Decision::Cloud(why) => {
                    sink.route(Route::Cloud(why));
                    let (back, answered) = self.cloud(id, Route::Cloud(why), ask, turn, sink).await?;
                    turn = back;
                    match answered {
                        Ok(done) => return Ok((turn, done)),
                        Err(error) if why.has_local_model_behind_it() && may_answer_instead(&error, sink) => {
                            tracing::warn!(
                                request = %id,
                                wanted = why.as_str(),
                                error = chain(&error),
                                "the escalation failed; the local model answers"
                            );
                            case.weigh(Evidence::EscalationFailed);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    async fn try_local(
        &self,
        id: Ulid,
        ask: &Ask,
        messages: &[Message],
        case: &mut Case,
        sink: &mut Sink,
    ) -> Result<Tried, AskError> {
        let mut watch = match case.decision() {
            Decision::Local(LocalWhy::GoodEnough) => cascade(case.inputs()),
            _ => Cascade::default(),
        };
        let watched = if watch.confidence_tokens > 0 { Watched::Yes } else { Watched::No };
        let mut answer = match self.begin_local(id, ask, messages, watched).await {
            Ok(answer) => answer,
            Err(error) => return elsewhere(error, case, sink),
        };
        let (mut look, mut held) = (Look::at(watch.confidence_tokens), Vec::new());
        let end = loop {
            match answer.next().await {
                Ok(Step::Piece(piece, logprobs)) if watch.is_off() => {
                    drop(logprobs);
                    sink.route(local_route(case));
                    sink.push(piece).await?;
                }
                Ok(Step::Piece(piece, logprobs)) => {
                    held.push(piece);
                    if let Some(evidence) = look.add(&logprobs) {
                        if is_cloud(case.weigh(evidence)) {
                            // Dropping the answer cancels it.
                            return Ok(Tried::Doubted(None));
                        }
                        if watch.agreement_samples == 0 {
                            watch = Cascade::default();
                            release(&mut held, case, sink).await?;
                        }
                    }
                }
                Ok(Step::End(end)) => break end,
                Err(error) => return elsewhere(error, case, sink),
            }
        };
        self.conclude(
            id,
            ask,
            messages,
            watch,
            look,
            Whole { pieces: held, end, ran: answer.into_ran() },
            case,
            sink,
        )
        .await
    }

    /// A complete answer of which something may be held back still.
    #[expect(clippy::too_many_arguments, reason = "the rest of one function, cut where the stream ends")]
    async fn conclude(
        &self,
        id: Ulid,
        ask: &Ask,
        messages: &[Message],
        watch: Cascade,
        look: Look,
        whole: Whole,
        case: &mut Case,
        sink: &mut Sink,
    ) -> Result<Tried, AskError> {
        if let Some(evidence) = look.end(&whole.end)
            && is_cloud(case.weigh(evidence))
        {
            return Ok(Tried::Doubted(Some(whole)));
        }
        if watch.agreement_samples > 0 {
            let text: String = whole.pieces.iter().map(|piece| piece.text.as_str()).collect();
            let overlaps_ppm = self.samples(id, ask, messages, &text, watch.agreement_samples).await;
            if is_cloud(case.weigh(Evidence::Agreement { overlaps_ppm })) {
                return Ok(Tried::Doubted(Some(whole)));
            }
        }
        show(whole, case, sink).await.map(|done| Tried::Answered(Box::new(done)))
    }
}

/// Shows what was held back of a complete answer.
async fn show(mut whole: Whole, case: &Case, sink: &mut Sink) -> Result<Done, AskError> {
    sink.route(local_route(case));
    release(&mut whole.pieces, case, sink).await?;
    Ok(whole.ran.done(local_route(case), whole.end, sink))
}

async fn release(held: &mut Vec<Delta>, case: &Case, sink: &mut Sink) -> Result<(), AskError> {
    sink.route(local_route(case));
    for piece in held.drain(..) {
        sink.push(piece).await?;
    }
    Ok(())
}

/// The reason as things stand. Only asked while the decision is a local one.
fn local_route(case: &Case) -> Route {
    match case.decision() {
        Decision::Local(why) => Route::Local(why),
        Decision::Cloud(why) => Route::Cloud(why),
        Decision::Refuse(_) => Route::Local(LocalWhy::GoodEnough),
    }
}

fn is_cloud(decision: Decision) -> bool {
    matches!(decision, Decision::Cloud(_))
}

/// The local model takes no more for now: perhaps the cloud does.
fn elsewhere(error: AskError, case: &mut Case, sink: &Sink) -> Result<Tried, AskError> {
    let AskError::Model(ModelError::Refused(problem)) = &error else { return Err(error) };
    if problem.reason != reason::BUSY || !sink.is_silent() {
        return Err(error);
    }
    let wait = problem.retry_after.unwrap_or(Duration::ZERO);
    let evidence =
        Evidence::QueueFull { retry_after_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX) };
    if is_cloud(case.weigh(evidence)) { Ok(Tried::Doubted(None)) } else { Err(error) }
}

/// Nothing was shown yet, and somebody still listens.
fn may_answer_instead(error: &AskError, sink: &Sink) -> bool {
    let left = matches!(error, AskError::Sink(_) | AskError::Escalation(EscalationError::Sink(_)));
    sink.is_silent() && !left
}

/// Looks at the log probabilities of an answer's first tokens, once.
#[derive(Debug)]
struct Look {
    wanted: u32,
    seen: u32,
    sum: f64,
}

impl Look {
    fn at(wanted: u32) -> Self {
        Self { wanted, seen: 0, sum: 0.0 }
    }

    /// The evidence, as soon as there are enough.
    fn add(&mut self, logprobs: &[f32]) -> Option<Evidence> {
        for logprob in logprobs.iter().take(self.wanted.saturating_sub(self.seen) as usize) {
            self.seen += 1;
            self.sum += f64::from(*logprob);
        }
        (self.wanted > 0 && self.seen == self.wanted).then(|| {
            self.wanted = 0;
            confidence(self.seen, self.sum / f64::from(self.seen))
        })
    }

    /// The evidence of an answer that was shorter, or came without its tokens' log probabilities.
    fn end(self, end: &Finished) -> Option<Evidence> {
        if self.wanted == 0 {
            return None;
        }
        Some(match (self.seen, end.output_tokens) {
            // Nothing was said: nothing to be sure of.
            (0, 0) => confidence(0, f64::NEG_INFINITY),
            (0, tokens) => confidence(tokens, f64::from(end.mean_logprob)),
            (seen, _) => confidence(seen, self.sum / f64::from(seen)),
        })
    }
}

/// The exponential of the mean log probability, in millionths.
fn confidence(tokens: u32, mean_logprob: f64) -> Evidence {
    Evidence::Confidence { tokens, confidence_ppm: ppm(mean_logprob.exp()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sure(tokens: u32, confidence_ppm: u32) -> Option<Evidence> {
        Some(Evidence::Confidence { tokens, confidence_ppm })
    }

    #[test]
    fn exactly_the_first_tokens_are_looked_at_and_only_once() {
        let half = 0.5_f32.ln();
        let mut look = Look::at(3);
        assert_eq!(look.add(&[half]), None);
        assert_eq!(
            look.add(&[half, half, 0.0, 0.0]),
            sure(3, 500_000),
            "what comes with the third token is not"
        );
        assert_eq!(look.add(&[half]), None);
        assert_eq!(look.end(&Finished::default()), None);
    }

    #[test]
    fn a_short_answer_is_looked_at_as_a_whole() {
        let mut look = Look::at(24);
        assert_eq!(look.add(&[0.25_f32.ln(), 1.0_f32.ln()]), None);
        assert_eq!(look.end(&Finished { output_tokens: 2, ..Finished::default() }), sure(2, 500_000));
    }

    #[test]
    fn without_the_tokens_log_probabilities_the_mean_of_the_whole_answer_counts() {
        let end = Finished { output_tokens: 9, mean_logprob: 0.5_f32.ln(), ..Finished::default() };
        assert_eq!(Look::at(24).end(&end), sure(9, 500_000));
    }

    #[test]
    fn an_empty_answer_is_nothing_to_be_sure_of() {
        assert_eq!(Look::at(24).end(&Finished::default()), sure(0, 0));
        let end = Finished { output_tokens: 1, mean_logprob: f32::NAN, ..Finished::default() };
        assert_eq!(Look::at(24).end(&end), sure(1, 0));
    }

    #[test]
    fn nobody_looks_when_nothing_is_wanted() {
        let mut look = Look::at(0);
        assert_eq!(look.add(&[-1.0]), None);
        assert_eq!(look.end(&Finished { output_tokens: 5, ..Finished::default() }), None);
    }
}
