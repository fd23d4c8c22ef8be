//! The engine thread's side of a loaded model: its context, the sequences in it, and its adapters. Never leaves
//! that thread.

mod adapters;
mod admit;
mod step;

use std::sync::Arc;

use tokio::time::Instant;

use self::adapters::Adapters;
use super::EngineError;
use super::loaded::Loaded;
use super::logits::Row;
use super::prefix::PrefixCache;
use super::request::FinishReason;
use super::schedule::Rota;
use super::slot::Slot;
use super::vitals::Vitals;
use crate::llama::{Batch, Context, LlamaError, Logits, SavedSequence, Sequence, Token};

/// A loaded model with everything that is being computed with it.
pub(super) struct Session {
    pub(super) loaded: Arc<Loaded>,
    context: Context,
    batch: Batch,
    adapters: Adapters,
    slots: Vec<Slot>,
    saved: PrefixCache<Token, SavedSequence>,
    rota: Rota,
    /// Rises with every request that ends.
    clock: u64,
    vitals: Arc<Vitals>,
}

impl Session {
    /// Makes the context and tries the model with one token.
    pub(super) fn new(loaded: Arc<Loaded>, vitals: Arc<Vitals>) -> Result<Self, EngineError> {
        let context = Context::new(&loaded.model, loaded.room.context).map_err(EngineError::ModelRefused)?;
        let slots: Vec<Slot> = context.sequences().map(Slot::new).collect();
        let mut session = Self {
            context,
            batch: Batch::new(),
            adapters: Adapters::default(),
            slots,
            saved: PrefixCache::new(loaded.room.prefix_cache),
            rota: Rota::default(),
            clock: 0,
            vitals,
            loaded,
        };
        let model = &session.loaded.model;
        let canary = model.begin().or_else(|| model.token(0)).ok_or(EngineError::ModelSilent)?;
        let sequence = session.slots.first().ok_or(EngineError::ModelSilent)?.sequence;
        if !session.is_finite_after(sequence, &[canary]).map_err(EngineError::ModelRefused)? {
            return Err(EngineError::ModelNotFinite);
        }
        Ok(session)
    }

    /// Whether nothing is being computed.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| slot.work.is_none())
    }

    pub(super) fn has_room(&self) -> bool {
        self.slots.iter().any(|slot| slot.work.is_none())
    }

    pub(super) fn active(&self) -> usize {
        self.slots.iter().filter(|slot| slot.work.is_some()).count()
    }

    /// Frees the sequences of requests that nobody waits for any more. What was computed stays a prefix.
    pub(super) fn drop_abandoned(&mut self) {
        for place in 0..self.slots.len() {
            if self.slots[place].work.as_ref().is_some_and(|work| work.listener.is_gone()) {
                self.release(place);
            }
        }
    }

    /// Ends a request well.
    fn finish(&mut self, place: usize, reason: FinishReason, now: Instant) {
        if let Some(work) = self.slots[place].work.take() {
            self.vitals.served(now - work.begun);
            self.settle(place);
            // Before the last event: whoever got it finds the place free.
            work.ticket.give_back();
            work.finish(reason, now);
        }
    }

    /// Ends a request badly. Its sequence is emptied: what is in it may be the reason.
    fn fail(&mut self, place: usize, error: EngineError) {
        let is_poisoned = matches!(error, EngineError::NotFinite);
        let sequence = self.slots[place].sequence;
        if let Some(mut work) = self.slots[place].work.take() {
            tracing::debug!(request = work.request_id, %error, "a request failed");
            work.ticket.give_back();
            work.listener.fail(error);
        }
        if is_poisoned {
            self.wipe(sequence);
        } else {
            self.context.truncate(sequence, 0);
        }
        self.slots[place].tokens.clear();
        self.settle(place);
    }

    /// Ends a request without a word.
    fn release(&mut self, place: usize) {
        if let Some(work) = self.slots[place].work.take() {
            tracing::debug!(request = work.request_id, "nobody waits for the answer any more");
            work.ticket.give_back();
        }
        self.settle(place);
    }

    /// A sequence has become idle.
    fn settle(&mut self, place: usize) {
        self.clock += 1;
        let slot = &mut self.slots[place];
        slot.used = self.clock;
        let is_unloaded = slot.variant.adapter().is_some_and(|(id, _)| !self.adapters.has(id));
        if is_unloaded {
            self.context.truncate(slot.sequence, 0);
        }
        slot.tokens.truncate(self.context.length(slot.sequence));
        self.vitals.set_active(self.active());
    }

    /// Zeroes a sequence. Where another was lost on the way its request ends.
    fn wipe(&mut self, sequence: Sequence) {
        if let Err(error) = self.context.wipe(sequence) {
            tracing::warn!(%error, "sequences were lost");
        }
        for place in 0..self.slots.len() {
            let slot = &mut self.slots[place];
            let length = self.context.length(slot.sequence);
            if slot.sequence == sequence || slot.tokens.len() == length {
                continue;
            }
            slot.tokens.truncate(length);
            if slot.work.is_some() {
                self.fail(place, LlamaError::State.into());
            }
        }
    }

    /// Decodes `tokens` in an empty sequence, looks whether the outcome is numbers, and empties it again.
    fn is_finite_after(&mut self, sequence: Sequence, tokens: &[Token]) -> Result<bool, LlamaError> {
        self.context.truncate(sequence, 0);
        self.batch.clear();
        let mut output = None;
        for (place, token) in tokens.iter().enumerate() {
            let logits = if place + 1 == tokens.len() { Logits::Wanted } else { Logits::Unneeded };
            output = Some(self.batch.push(sequence, *token, logits)?);
        }
        let output = output.ok_or(LlamaError::NoLogits)?;
        self.context.decode(&self.batch, None)?;
        let is_finite = Row::read(self.context.logits(output)?).is_some();
        self.context.truncate(sequence, 0);
        if !is_finite {
            self.wipe(sequence);
        }
        Ok(is_finite)
    }
}
