//! Giving a request a sequence, with as much of its prompt in it as is computed already.

use tokio::time::Instant;

use super::Session;
use crate::engine::EngineError;
use crate::engine::answer::Answer;
use crate::engine::job::{Job, Task};
use crate::engine::prefix::{Plan, Source, WORTH_COPYING, plan};
use crate::engine::request::{Batching, Event, FinishReason, Start};
use crate::engine::slot::{Stage, Work};
use crate::llama::{SavedSequence, Token};

impl Session {
    /// Takes a request over; there must be room. What is wrong with it is told to the one who asked.
    pub(in crate::engine) fn admit(&mut self, job: Job, now: Instant) {
        let Job { request_id, tokens, variant, batching, arrived, ticket, task, mut listener, .. } = job;
        let adapter = match variant.adapter().map(|(id, _)| self.adapters.weights(id)).transpose() {
            Ok(adapter) => adapter,
            Err(error) => return listener.fail(error),
        };
        let answer = match task {
            Task::Warm => None,
            Task::Answer(wanted) => match Answer::new(&self.loaded.model, *wanted, &tokens) {
                Ok(answer) => Some(answer),
                Err(error) => return listener.fail(error),
            },
        };
        let reusable: &[Token] = match (batching, &answer) {
            (Batching::Alone, _) => &[],
            (Batching::Shared, None) => &tokens,
            // The answer begins with the logits after the last token, which are not kept.
            (Batching::Shared, Some(_)) => tokens.split_last().map_or(&[], |(_, rest)| rest),
        };
        let candidates: Vec<_> = self.slots.iter().map(|slot| slot.candidate()).collect();
        let Some(chosen) = plan(&variant, reusable, &candidates, &self.saved) else {
            return listener.fail(EngineError::Stopped);
        };
        let cached = self.prepare(chosen);
        let slot = &mut self.slots[chosen.sequence];
        slot.variant = variant;
        slot.tokens.clear();
        slot.tokens.extend_from_slice(&tokens[..cached]);
        let start = Start { input_tokens: tokens.len(), cached_tokens: cached, queued: now - arrived };
        listener.send(Event::Started(start));
        let is_done = cached == tokens.len();
        slot.work = Some(Box::new(Work {
            request_id,
            prompt: tokens,
            batching,
            adapter,
            start,
            begun: now,
            stage: Stage::Prefilling,
            answer,
            listener,
            ticket,
        }));
        self.vitals.set_active(self.active());
        if is_done {
            self.finish(chosen.sequence, FinishReason::Stop, now);
        }
    }

    /// Brings the beginning into the chosen sequence and returns how many tokens of it there are. What is pushed
    /// out is kept where there is room for it.
    fn prepare(&mut self, chosen: Plan) -> usize {
        let sequence = self.slots[chosen.sequence].sequence;
        let own = match chosen.source {
            Source::Own(length) => length,
            _ => 0,
        };
        let pushed_out = self.copy_before_overwriting(chosen.sequence, own);
        let wanted = match chosen.source {
            Source::Nothing => 0,
            Source::Own(length) => length,
            Source::Sequence(other, length) => {
                let other = self.slots[other].sequence;
                let copied = self.context.save(other);
                let restored = copied.is_some_and(|copied| self.context.restore(sequence, &copied));
                if restored { length } else { 0 }
            }
            Source::Saved(entry, length) => {
                let state = self.saved.state(entry);
                let restored = state.is_some_and(|state| self.context.restore(sequence, state));
                if restored { length } else { 0 }
            }
        };
        let cached = self.context.truncate(sequence, wanted);
        // Only now: keeping it may move the entries.
        if let Some(state) = pushed_out {
            let slot = &self.slots[chosen.sequence];
            let size = state.size();
            self.saved.insert(slot.variant.clone(), slot.tokens.clone(), state, size);
        }
        cached
    }

    /// A copy of an idle sequence that is about to lose all but its first `kept` tokens, if that is worth it.
    fn copy_before_overwriting(&mut self, place: usize, kept: usize) -> Option<SavedSequence> {
        let slot = &self.slots[place];
        let is_worth_it = slot.tokens.len() >= kept + WORTH_COPYING
            && self.saved.takes(1)
            && !self.saved.covers(&slot.variant, &slot.tokens);
        if is_worth_it { self.context.save(slot.sequence) } else { None }
    }
}
