//! One try of the local model at an answer that may be judged before it is shown.

use std::time::Duration;

use synesis_privacy::Message;
use synesis_proto::reason;
use synesis_proto::runtime::v1::Finished;
use ulid::Ulid;

use super::local::{Ran, Step, Watched};
use super::look::Look;
use super::{Ask, AskError, Asker, Delta, Done, Route, Sink};
use crate::decisions::Case;
use crate::model::ModelError;
use crate::route::{Cascade, Decision, Evidence, LocalWhy, cascade};

/// A local answer that is complete and was not shown.
pub(super) struct Whole {
    pieces: Vec<Delta>,
    end: Finished,
    ran: Ran,
}

/// What came of asking the local model.
pub(super) enum Tried {
    Answered(Box<Done>),
    /// The decision is another one now. The answer, when it was complete, is kept: the cloud may fail.
    Doubted(Option<Whole>),
}

/// What a try needs to know, and whom it tells.
pub(super) struct Attempt<'a> {
    pub(super) asker: &'a Asker,
    pub(super) id: Ulid,
    pub(super) ask: &'a Ask,
    pub(super) messages: &'a [Message],
    pub(super) case: &'a mut Case,
    pub(super) sink: &'a mut Sink,
    /// As it was decided so far.
    pub(super) why: LocalWhy,
}

impl Attempt<'_> {
    /// Answers, or finds the evidence that somebody else should.
    ///
    /// # Errors
    /// The model failed, or nobody listens any more.
    pub(super) async fn run(mut self) -> Result<Tried, AskError> {
        let mut watch = match self.why {
            LocalWhy::GoodEnough => cascade(self.case.inputs()),
            _ => Cascade::default(),
        };
        let watched = if watch.confidence_tokens > 0 { Watched::Yes } else { Watched::No };
        let mut answer = match self.asker.begin_local(self.id, self.ask, self.messages, watched).await {
            Ok(answer) => answer,
            Err(error) => return self.elsewhere(error),
        };
        let (mut look, mut held) = (Look::at(watch.confidence_tokens), Vec::new());
        let end = loop {
            match answer.next().await {
                Ok(Step::Piece(piece, _)) if watch.is_off() => self.release([piece]).await?,
                Ok(Step::Piece(piece, logprobs)) => {
                    held.push(piece);
                    if let Some(evidence) = look.add(&logprobs) {
                        if self.is_doubted(evidence) {
                            // Dropping the answer cancels it.
                            return Ok(Tried::Doubted(None));
                        }
                        if watch.agreement_samples == 0 {
                            watch = Cascade::default();
                            self.release(held.drain(..)).await?;
                        }
                    }
                }
                Ok(Step::End(end)) => break end,
                Err(error) => return self.elsewhere(error),
            }
        };
        let whole = Whole { pieces: held, end, ran: answer.into_ran() };
        if let Some(evidence) = look.end(&whole.end)
            && self.is_doubted(evidence)
        {
            return Ok(Tried::Doubted(Some(whole)));
        }
        if watch.agreement_samples > 0 {
            let text: String = whole.pieces.iter().map(|piece| piece.text.as_str()).collect();
            let samples =
                self.asker.samples(self.id, self.ask, self.messages, &text, watch.agreement_samples);
            let evidence = Evidence::Agreement { overlaps_ppm: samples.await };
            if self.is_doubted(evidence) {
                return Ok(Tried::Doubted(Some(whole)));
            }
        }
        self.show(whole).await.map(|done| Tried::Answered(Box::new(done)))
    }

    /// Shows what was held back of a complete answer.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(super) async fn show(mut self, whole: Whole) -> Result<Done, AskError> {
        self.release(whole.pieces).await?;
        Ok(whole.ran.done(Route::Local(self.why), whole.end, self.sink))
    }

    async fn release(&mut self, pieces: impl IntoIterator<Item = Delta>) -> Result<(), AskError> {
        self.sink.route(Route::Local(self.why));
        for piece in pieces {
            self.sink.push(piece).await?;
        }
        Ok(())
    }

    /// Whether the evidence sends the request elsewhere. If not, it may be a better reason to stay.
    fn is_doubted(&mut self, evidence: Evidence) -> bool {
        match self.case.weigh(evidence) {
            Decision::Local(why) => {
                self.why = why;
                false
            }
            Decision::Cloud(_) | Decision::Refuse(_) => true,
        }
    }

    /// The local model takes no more for now: perhaps the cloud does.
    fn elsewhere(mut self, error: AskError) -> Result<Tried, AskError> {
        let AskError::Model(ModelError::Refused(problem)) = &error else { return Err(error) };
        if problem.reason != reason::BUSY || !self.sink.is_silent() {
            return Err(error);
        }
        let wait = problem.retry_after.unwrap_or(Duration::ZERO);
        let retry_after_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        match self.is_doubted(Evidence::QueueFull { retry_after_ms }) {
            true => Ok(Tried::Doubted(None)),
            false => Err(error),
        }
    }
}
