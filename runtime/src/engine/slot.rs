//! A sequence and what it is used for.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::answer::Answer;
use super::job::Listener;
use super::prefix::{Candidate, Occupancy};
use super::request::{Batching, Event, FinishReason, Start, Summary, Warmed};
use super::schedule::Group;
use super::variant::Variant;
use super::vitals::Ticket;
use crate::llama::{Adapter, Sequence, Token};

/// One sequence of the context. What it has computed stays until the place is needed, for the next request that
/// begins like it.
pub(super) struct Slot {
    pub(super) sequence: Sequence,
    /// What the tokens were computed with.
    pub(super) variant: Variant,
    /// What the cache stands for, always all of it.
    pub(super) tokens: Vec<Token>,
    /// When it became idle, by the session's clock.
    pub(super) used: u64,
    pub(super) work: Option<Box<Work>>,
}

/// A request that has a sequence.
pub(super) struct Work {
    pub(super) request_id: String,
    pub(super) prompt: Vec<Token>,
    pub(super) batching: Batching,
    /// Stays loaded until the request is done, also when it is unloaded meanwhile.
    pub(super) adapter: Option<Rc<Adapter>>,
    pub(super) start: Start,
    pub(super) begun: Instant,
    pub(super) stage: Stage,
    /// `None`: the prompt is only kept.
    pub(super) answer: Option<Answer>,
    pub(super) listener: Listener,
    pub(super) ticket: Arc<Ticket>,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stage {
    Prefilling,
    /// The token that was chosen and not computed yet.
    Generating {
        next: Token,
        since: Instant,
    },
}

impl Slot {
    pub(super) fn new(sequence: Sequence) -> Self {
        Self { sequence, variant: Variant::default(), tokens: Vec::new(), used: 0, work: None }
    }

    pub(super) fn candidate(&self) -> Candidate<'_, Token> {
        let occupancy = if self.work.is_some() { Occupancy::Busy } else { Occupancy::Idle(self.used) };
        Candidate { variant: &self.variant, tokens: &self.tokens, occupancy }
    }

    /// Whom it may share a batch with.
    pub(super) fn group(&self) -> Option<Group> {
        let work = self.work.as_ref()?;
        Some(match work.batching {
            Batching::Shared => Group::Of(self.variant.clone()),
            Batching::Alone => Group::Alone(self.variant.clone(), self.sequence.index()),
        })
    }

    pub(super) fn is_in(&self, group: &Group) -> bool {
        self.group().is_some_and(|own| own == *group)
    }

    /// The token to compute next, if it generates.
    pub(super) fn next_token(&self) -> Option<Token> {
        match self.work.as_ref()?.stage {
            Stage::Generating { next, .. } => Some(next),
            Stage::Prefilling => None,
        }
    }

    /// The next token of its prompt, if it is not the last: the logits after that one are wanted.
    pub(super) fn spare_token(&self) -> Option<Token> {
        let work = self.work.as_ref()?;
        match (work.stage, work.batching, self.prompt_left()) {
            (Stage::Prefilling, Batching::Shared, [next, _, ..]) => Some(*next),
            _ => None,
        }
    }

    fn prompt_left(&self) -> &[Token] {
        let prompt = self.work.as_ref().map_or(&[][..], |work| &work.prompt);
        prompt.get(self.tokens.len()..).unwrap_or(&[])
    }

    /// When it began, if its prompt is not computed yet.
    pub(super) fn prefilling_since(&self) -> Option<Instant> {
        let work = self.work.as_ref()?;
        (work.stage == Stage::Prefilling).then_some(work.begun)
    }
}

impl Work {
    /// Tells the one who asked how it ended.
    pub(super) fn finish(mut self, reason: FinishReason, now: Instant) {
        let Self { start, begun, .. } = self;
        let prefilled = match self.stage {
            Stage::Generating { since, .. } => since,
            Stage::Prefilling => now,
        };
        match self.answer.take() {
            Some(answer) => {
                let summary = Summary {
                    reason,
                    start,
                    output_tokens: answer.tokens(),
                    prefill: prefilled - begun,
                    generation: now - prefilled,
                    mean_logprob: answer.mean_logprob(),
                };
                tracing::debug!(request = self.request_id, ?summary, "answered");
                self.listener.send(Event::Finished(summary));
            }
            None => self.listener.warmed(Warmed {
                tokens: start.input_tokens,
                cached_tokens: start.cached_tokens,
                prefill: prefilled - begun,
            }),
        }
    }
}
