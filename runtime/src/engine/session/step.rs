//! One step: a token for every answer of the group whose turn it is, and a part of a prompt.

use tokio::time::Instant;

use super::Session;
use crate::engine::EngineError;
use crate::engine::answer::Verdict;
use crate::engine::request::{Batching, FinishReason};
use crate::engine::schedule::Group;
use crate::engine::slot::Stage;
use crate::llama::{BATCH, LlamaError, Logits, Output};

/// Most tokens of a prompt that are computed between two tokens of other answers. A quarter of a batch: smaller
/// parts do not make the answers much smoother, and each costs a graph.
const PROMPT_BESIDE_ANSWERS: usize = BATCH / 4;
/// Most tokens of a prompt in one step when nothing else is to be computed: what the library computes at once.
/// More would only keep the thread from hearing of anything new.
const PROMPT_ALONE: usize = BATCH / 2;

impl Session {
    /// Computes one step. Does nothing when there is nothing to compute.
    pub(in crate::engine) fn step(&mut self) {
        let mut groups: Vec<Group> = Vec::with_capacity(self.slots.len());
        for group in self.slots.iter().filter_map(|slot| slot.group()) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        let Some(group) = self.rota.next(Instant::now(), &groups) else { return };
        if let Err(error) = self.set_variant(&group) {
            tracing::error!(%error, ?group, "the adapter of a group cannot be set");
            for place in self.members(&group) {
                self.fail(place, LlamaError::State.into());
            }
            return;
        }
        let generating = self.generate(&group);
        self.prefill(&group, generating > 0 || groups.len() > 1);
    }

    fn set_variant(&mut self, group: &Group) -> Result<(), LlamaError> {
        let scale = group.variant().adapter().map(|(_, scale)| scale);
        let member = self.slots.iter().find(|slot| slot.is_in(group));
        let adapter = member.and_then(|slot| slot.work.as_ref()).and_then(|work| work.adapter.as_ref());
        self.context.set_adapter(adapter.zip(scale))
    }

    fn members(&self, group: &Group) -> Vec<usize> {
        (0..self.slots.len()).filter(|place| self.slots[*place].is_in(group)).collect()
    }

    /// One token for every answer of the group, in one batch. Returns how many there were.
    fn generate(&mut self, group: &Group) -> usize {
        let generating: Vec<usize> = self
            .members(group)
            .into_iter()
            .filter(|place| self.slots[*place].next_token().is_some())
            .collect();
        if generating.is_empty() {
            return 0;
        }
        // One sequence between two others that stays out would cut the batch in two: only neighbours are computed
        // together. A token of its prompt has to be computed anyway.
        let prompts: Vec<usize> = self
            .members(group)
            .into_iter()
            .filter(|place| self.slots[*place].spare_token().is_some())
            .collect();
        match self.decode_tokens(&generating, &prompts) {
            Ok(outputs) => self.advance_all(&outputs),
            Err(error) => {
                // One of them may be the reason; alone, only that one fails.
                tracing::warn!(%error, sequences = generating.len() + prompts.len(), "a batch failed");
                for place in &generating {
                    match self.decode_tokens(&[*place], &[]) {
                        Ok(outputs) => self.advance_all(&outputs),
                        Err(error) => self.fail(*place, error.into()),
                    }
                }
            }
        }
        generating.len()
    }

    /// A token of each answer and of each prompt, by rising number of their sequences.
    fn decode_tokens(
        &mut self,
        generating: &[usize],
        prompts: &[usize],
    ) -> Result<Vec<(usize, Output)>, LlamaError> {
        self.batch.clear();
        let mut outputs = Vec::with_capacity(generating.len());
        let mut tokens = Vec::with_capacity(generating.len() + prompts.len());
        for (place, slot) in self.slots.iter().enumerate() {
            let (token, logits) = if generating.contains(&place) {
                (slot.next_token(), Logits::Wanted)
            } else if prompts.contains(&place) {
                (slot.spare_token(), Logits::Unneeded)
            } else {
                continue;
            };
            // A recurrent model cannot be cut back after a failed batch; then there is nothing to go on from.
            let token = token.filter(|_| self.context.length(slot.sequence) == slot.tokens.len());
            let token = token.ok_or(LlamaError::State)?;
            let output = self.batch.push(slot.sequence, token, logits)?;
            tokens.push((place, token));
            if logits == Logits::Wanted {
                outputs.push((place, output));
            }
        }
        self.context.decode(&self.batch, None)?;
        for (place, token) in tokens {
            self.slots[place].tokens.push(token);
        }
        Ok(outputs)
    }

    fn advance_all(&mut self, outputs: &[(usize, Output)]) {
        // All of them first: a failure may need the context, which ends the rows of logits.
        let verdicts: Vec<_> =
            outputs.iter().map(|(place, output)| (*place, self.advance(*place, *output))).collect();
        for (place, verdict) in verdicts {
            self.apply(place, verdict);
        }
    }

    fn advance(&mut self, place: usize, output: Output) -> Result<Verdict, EngineError> {
        let logits = self.context.logits(output)?;
        let work = self.slots[place].work.as_mut().ok_or(EngineError::Stopped)?;
        let answer = work.answer.as_mut().ok_or(EngineError::Stopped)?;
        let before = answer.tokens();
        let verdict = answer.advance(logits, &work.listener);
        if answer.tokens() > before {
            self.vitals.count_token();
        }
        verdict
    }

    fn apply(&mut self, place: usize, verdict: Result<Verdict, EngineError>) {
        let now = Instant::now();
        match verdict {
            Ok(Verdict::Next(next)) => {
                if let Some(work) = &mut self.slots[place].work {
                    let since = match work.stage {
                        Stage::Generating { since, .. } => since,
                        Stage::Prefilling => now,
                    };
                    work.stage = Stage::Generating { next, since };
                }
            }
            Ok(Verdict::Done(reason)) => self.finish(place, reason, now),
            Err(error) => self.fail(place, error),
        }
    }

    /// A part of the prompt that waits longest in the group, in a batch of its own: beside tokens of answers the
    /// library would split it anyway, and alone it can be given up when nobody waits for it any more.
    fn prefill(&mut self, group: &Group, others_wait: bool) {
        let waiting = self.members(group).into_iter().filter_map(|place| {
            let since = self.slots[place].prefilling_since()?;
            Some((since, place))
        });
        let Some((_, place)) = waiting.min() else { return };
        match self.decode_prompt(place, others_wait) {
            Ok(None) => {}
            Ok(Some(output)) => {
                let verdict = self.advance(place, output);
                self.apply(place, verdict);
            }
            Err(LlamaError::GivenUp) => self.release(place),
            Err(error) => self.fail(place, error.into()),
        }
        let is_warm = |place: usize| {
            let slot = &self.slots[place];
            slot.work
                .as_ref()
                .is_some_and(|work| work.answer.is_none() && slot.tokens.len() == work.prompt.len())
        };
        if is_warm(place) {
            self.finish(place, FinishReason::Stop, Instant::now());
        }
    }

    /// `Some` when it was the last part of a prompt that is to be answered.
    fn decode_prompt(&mut self, place: usize, others_wait: bool) -> Result<Option<Output>, LlamaError> {
        let Self { slots, context, batch, .. } = self;
        let slot = &mut slots[place];
        let Some(work) = &slot.work else { return Ok(None) };
        let most = match work.batching {
            // Parts of one size, whatever the load.
            Batching::Alone => PROMPT_ALONE,
            Batching::Shared if others_wait => PROMPT_BESIDE_ANSWERS,
            Batching::Shared => PROMPT_ALONE,
        };
        let done = slot.tokens.len();
        if context.length(slot.sequence) != done {
            return Err(LlamaError::State);
        }
        let until = work.prompt.len().min(done + most);
        let is_last = until == work.prompt.len();
        batch.clear();
        let mut output = None;
        for (place, token) in (done..).zip(&work.prompt[done..until]) {
            let wanted = is_last && place + 1 == until && work.answer.is_some();
            let logits = if wanted { Logits::Wanted } else { Logits::Unneeded };
            output = Some(batch.push(slot.sequence, *token, logits)?).filter(|_| wanted);
        }
        let listener = &work.listener;
        context.decode(batch, Some(&|| listener.is_gone()))?;
        slot.tokens.extend_from_slice(&work.prompt[done..until]);
        Ok(output)
    }
}
