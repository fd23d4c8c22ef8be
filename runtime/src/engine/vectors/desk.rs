//! The context that makes vectors, and the inputs that are in it. Every sequence is a lane: it takes an input, a part
//! at a time, and then the next one.

use std::sync::Arc;
use std::time::Duration;

use super::Method;
use super::pool::Pool;
use crate::engine::EngineError;
use crate::engine::loaded::Loaded;
use crate::engine::request::Vector;
use crate::fit::VectorRoom;
use crate::llama::{Batch, Context, ContextSettings, LlamaError, Logits, Output, Purpose, Sequence, Token};

pub(super) struct Desk {
    pub(super) room: VectorRoom,
    /// How long it is kept unused.
    pub(super) patience: Duration,
    context: Context,
    batch: Batch,
    method: Method,
    width: usize,
    lanes: Vec<Lane>,
    /// Inputs that have no lane yet, by number; the last is next.
    waiting: Vec<usize>,
    /// Of the inputs that are done.
    vectors: Vec<Option<Vector>>,
}

struct Lane {
    sequence: Sequence,
    work: Option<Work>,
}

struct Work {
    /// Its number.
    input: usize,
    /// Tokens that are computed.
    done: usize,
    pool: Pool,
}

impl Desk {
    pub(super) fn new(loaded: &Arc<Loaded>, room: VectorRoom) -> Result<Self, LlamaError> {
        let settings = ContextSettings {
            tokens: room.tokens,
            parallel: u16::try_from(room.parallel).unwrap_or(1),
            threads: loaded.room.context.threads,
            purpose: Purpose::Vectors(room.batch),
        };
        let context = Context::new(&loaded.model, settings)?;
        let lanes = context.sequences().map(|sequence| Lane { sequence, work: None }).collect();
        Ok(Self {
            room,
            patience: loaded.vectors_idle,
            context,
            batch: Batch::of(room.batch as usize),
            method: loaded.vectors.unwrap_or(Method::Mean),
            width: loaded.model.vector_width(),
            lanes,
            waiting: Vec::new(),
            vectors: Vec::new(),
        })
    }

    /// Takes on the inputs of another request, whatever is left of the one before.
    pub(super) fn lay_out(&mut self, inputs: &[Vec<Token>]) {
        for lane in &mut self.lanes {
            lane.work = None;
            self.context.truncate(lane.sequence, 0);
        }
        self.vectors = inputs.iter().map(|_| None).collect();
        self.waiting = (0..inputs.len()).collect();
        // Inputs of about the same length side by side, the longest first: only tokens at the same distance to
        // the end of a part are computed together.
        self.waiting.sort_by_key(|input| inputs.get(*input).map_or(0, Vec::len));
    }

    /// Computes one batch. `Some` when it was the last: the vectors, in the order of the inputs.
    pub(super) fn step(
        &mut self,
        give_up: &(dyn Fn() -> bool + Sync),
        inputs: &[Vec<Token>],
    ) -> Result<Option<Vec<Vector>>, EngineError> {
        self.fill_lanes();
        let outputs = self.fill_batch(inputs)?;
        if !outputs.is_empty() {
            self.context.decode(&self.batch, Some(give_up))?;
            self.collect(&outputs, inputs)?;
        }
        if self.waiting.is_empty() && self.lanes.iter().all(|lane| lane.work.is_none()) {
            return Ok(Some(std::mem::take(&mut self.vectors).into_iter().flatten().collect()));
        }
        Ok(None)
    }

    fn fill_lanes(&mut self) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.work.is_none()) {
            let Some(input) = self.waiting.pop() else { return };
            lane.work = Some(Work { input, done: 0, pool: Pool::new(self.method, self.width) });
        }
    }

    /// A fair part of every lane's input, by rising number of the sequences.
    fn fill_batch(&mut self, inputs: &[Vec<Token>]) -> Result<Vec<(usize, Output)>, LlamaError> {
        let active = self.lanes.iter().filter(|lane| lane.work.is_some()).count();
        let part = (self.room.batch as usize / active.max(1)).max(1);
        self.batch.clear();
        let mut outputs = Vec::with_capacity(self.room.batch as usize);
        for (place, lane) in self.lanes.iter().enumerate() {
            let Some(work) = &lane.work else { continue };
            let left = inputs.get(work.input).and_then(|input| input.get(work.done..)).unwrap_or(&[]);
            for token in left.iter().take(part) {
                outputs.push((place, self.batch.push(lane.sequence, *token, Logits::Wanted)?));
            }
        }
        Ok(outputs)
    }

    fn collect(&mut self, outputs: &[(usize, Output)], inputs: &[Vec<Token>]) -> Result<(), EngineError> {
        for (place, output) in outputs {
            if let Some(work) = self.lanes.get_mut(*place).and_then(|lane| lane.work.as_mut()) {
                work.pool.add(self.context.vector(*output)?);
                work.done += 1;
            }
        }
        for lane in &mut self.lanes {
            let is_done =
                |work: &mut Work| inputs.get(work.input).is_none_or(|input| work.done >= input.len());
            if let Some(Work { input, done, pool }) = lane.work.take_if(is_done) {
                let values = pool.finish().ok_or(EngineError::NotFinite)?;
                if let Some(place) = self.vectors.get_mut(input) {
                    *place = Some(Vector { values, tokens: done });
                }
                self.context.truncate(lane.sequence, 0);
            }
        }
        Ok(())
    }
}
