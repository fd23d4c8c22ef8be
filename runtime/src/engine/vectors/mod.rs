//! Vectors of texts, on the engine's thread: a context of their own, made at the first request and let go when nobody
//! asked for a while. Between two steps of the answers at most one batch is computed here, and nothing is shared with
//! them but the weights, so answers stay what they are.

mod desk;
mod pool;

use std::sync::Arc;

use tokio::sync::watch;

use self::desk::Desk;
use super::job::Reply;
use super::loaded::Loaded;
use super::queue::FairQueue;
use super::request::Vector;
use super::vitals::{Ticket, Vitals};
use super::{EngineError, Idle};
use crate::fit::{self, VectorRoom};
use crate::llama::{LlamaError, Token};

/// How the vectors of an input's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    First,
    Mean,
    Last,
}

/// A request for vectors. Its inputs have at least one token each and fit the window.
pub(super) struct EmbedJob {
    pub(super) owner: String,
    /// The model the tokens belong to.
    pub(super) loaded: Arc<Loaded>,
    pub(super) inputs: Vec<Vec<Token>>,
    pub(super) ticket: Arc<Ticket>,
    pub(super) reply: Reply<Vec<Vector>>,
}

/// The requests, the one that is being computed, and the context.
pub(super) struct Embedder {
    queue: FairQueue<Box<EmbedJob>>,
    current: Option<Box<EmbedJob>>,
    desk: Option<Desk>,
    /// Rises with every request.
    uses: u64,
    idle: watch::Sender<Option<Idle>>,
    vitals: Arc<Vitals>,
}

impl Embedder {
    pub(super) fn new(idle: watch::Sender<Option<Idle>>, vitals: Arc<Vitals>) -> Self {
        Self { queue: FairQueue::new(), current: None, desk: None, uses: 0, idle, vitals }
    }

    pub(super) fn push(&mut self, job: Box<EmbedJob>) {
        self.queue.push(&job.owner.clone(), job);
    }

    /// Whether nobody waits for anything.
    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && self.queue.is_empty()
    }

    /// Lets the context go.
    pub(super) fn clear(&mut self) {
        self.desk = None;
        self.idle.send_replace(None);
        self.vitals.set_vector_bytes(0);
    }

    /// The same, unless it was used since.
    pub(super) fn clear_unused_since(&mut self, uses: u64) {
        if self.is_idle() && self.uses == uses && self.desk.is_some() {
            tracing::debug!("nobody asked for vectors for a while; their context is let go");
            self.clear();
        }
    }

    /// Makes one vector, to see that the model can.
    pub(super) fn try_out(loaded: &Arc<Loaded>) -> Result<(), EngineError> {
        let model = &loaded.model;
        let token = model.begin().or_else(|| model.token(0)).ok_or(EngineError::ModelSilent)?;
        let room = VectorRoom::new(1, loaded.info.context_tokens, loaded.header.whole);
        let mut desk = Desk::new(loaded, room).map_err(EngineError::ModelRefused)?;
        desk.lay_out(&[vec![token]]);
        match desk.step(&|| false, &[vec![token]]) {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(EngineError::NotFinite) => Err(EngineError::ModelNotFinite),
            Err(error) => Err(error),
        }
    }

    /// Computes a batch, when there is one to compute.
    pub(super) fn step(&mut self, loaded: Option<&Arc<Loaded>>) {
        self.queue.retain(|job| !job.reply.is_closed());
        // A GPU computes a batch to its end, whoever left meanwhile.
        self.current = self.current.take().filter(|job| !job.reply.is_closed());
        if self.current.is_none() && !self.begin(loaded) {
            return;
        }
        let (Some(job), Some(desk)) = (&self.current, &mut self.desk) else { return };
        let outcome = desk.step(&|| job.reply.is_closed(), &job.inputs);
        match outcome {
            Ok(None) => return,
            Ok(Some(vectors)) => self.finish(Ok(vectors)),
            Err(EngineError::Llama(LlamaError::GivenUp)) => {
                tracing::debug!("nobody waits for the vectors any more");
                self.current = None;
            }
            Err(error) => {
                // What is in the context may be the reason.
                self.clear();
                self.finish(Err(error));
            }
        }
        self.mark_used();
    }

    /// Takes the next request, if there is one, and lays its inputs out.
    fn begin(&mut self, loaded: Option<&Arc<Loaded>>) -> bool {
        let Some(job) = self.queue.pop() else { return false };
        let prepared = match loaded {
            None => Err(EngineError::NoModel),
            Some(loaded) if !Arc::ptr_eq(loaded, &job.loaded) => Err(EngineError::ModelReplaced),
            Some(loaded) => self.prepare(loaded, &job.inputs),
        };
        self.current = Some(job);
        if let Err(error) = prepared {
            self.finish(Err(error));
            return false;
        }
        true
    }

    /// A context that takes the longest of the inputs. One that is too small makes room first.
    fn prepare(&mut self, loaded: &Arc<Loaded>, inputs: &[Vec<Token>]) -> Result<(), EngineError> {
        let longest = inputs.iter().map(Vec::len).max().unwrap_or(0);
        let longest = u32::try_from(longest).unwrap_or(u32::MAX);
        if self.desk.as_ref().is_some_and(|desk| !desk.room.takes(longest)) {
            self.clear();
        }
        if self.desk.is_none() {
            let room = VectorRoom::new(longest, loaded.info.context_tokens, loaded.header.whole);
            let available = fit::available(loaded.memory_limit);
            let estimate = fit::check_vectors(&loaded.header, &room, &available)?;
            self.desk = Some(Desk::new(loaded, room)?);
            self.vitals.set_vector_bytes(estimate.total);
            tracing::info!(bytes = estimate.total, ?room, "a context for vectors was made");
        }
        if let Some(desk) = &mut self.desk {
            desk.lay_out(inputs);
        }
        Ok(())
    }

    fn finish(&mut self, outcome: Result<Vec<Vector>, EngineError>) {
        if let Some(job) = self.current.take() {
            let EmbedJob { ticket, reply, .. } = *job;
            // Before the reply: whoever got it finds the place free.
            ticket.give_back();
            drop(reply.send(outcome));
        }
    }

    /// The time until the context is let go begins anew.
    fn mark_used(&mut self) {
        self.uses += 1;
        let idle = self.desk.as_ref().map(|desk| Idle { uses: self.uses, patience: desk.patience });
        self.idle.send_replace(idle);
    }
}
