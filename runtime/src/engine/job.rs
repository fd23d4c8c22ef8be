//! What the engine's thread is asked to do.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::loaded::Loaded;
use super::request::{Batching, Event, Warmed};
use super::variant::Variant;
use super::vectors::EmbedJob;
use super::vitals::Ticket;
use super::{EngineError, ModelInfo, Sampling};
use crate::constraint::Constraint;
use crate::gguf::{AdapterHeader, OpenFile};
use crate::llama::Token;

pub(super) type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

pub(super) enum Command {
    /// Takes the place of the model, when the requests before it are done.
    Install {
        loaded: Arc<Loaded>,
        reply: Reply<ModelInfo>,
    },
    LoadAdapter {
        id: String,
        file: Box<AdapterFile>,
        reply: Reply<AdapterHeader>,
    },
    UnloadAdapter {
        id: String,
        reply: Reply<()>,
    },
    Run(Asked),
    /// Lets the context for vectors go, unless it was used since.
    Tidy {
        uses: u64,
    },
}

/// What is computed once it is its turn.
pub(super) enum Asked {
    Answer(Box<Job>),
    Vectors(Box<EmbedJob>),
}

/// An adapter file that passed the checks against `loaded`.
pub(super) struct AdapterFile {
    pub(super) loaded: Arc<Loaded>,
    pub(super) open: OpenFile,
    pub(super) header: AdapterHeader,
}

/// A request, ready to run: its tokens fit the context.
pub(super) struct Job {
    pub(super) request_id: String,
    pub(super) owner: String,
    /// The model the tokens belong to.
    pub(super) loaded: Arc<Loaded>,
    pub(super) tokens: Vec<Token>,
    pub(super) variant: Variant,
    pub(super) batching: Batching,
    pub(super) arrived: Instant,
    pub(super) ticket: Arc<Ticket>,
    pub(super) task: Task,
    pub(super) listener: Listener,
}

/// What becomes of the prompt.
pub(super) enum Task {
    Answer(Box<Wanted>),
    /// It is only computed and kept.
    Warm,
}

/// The answer that is wanted.
pub(super) struct Wanted {
    /// Most tokens, at least one.
    pub(super) budget: usize,
    pub(super) sampling: Sampling,
    pub(super) stop: Vec<String>,
    pub(super) logprobs: Option<usize>,
    pub(super) constraint: Option<Constraint>,
}

/// Who asked.
pub(super) enum Listener {
    Events(mpsc::Sender<Result<Event, EngineError>>),
    Warm(Option<Reply<Warmed>>),
}

impl Listener {
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Events(events) => events.is_closed(),
            Self::Warm(reply) => reply.as_ref().is_none_or(oneshot::Sender::is_closed),
        }
    }

    pub(super) fn send(&self, event: Event) {
        if let Self::Events(events) = self {
            // The channel has room for every event of the answer; it is closed when nobody listens any more.
            let _gone = events.try_send(Ok(event));
        }
    }

    pub(super) fn fail(&mut self, error: EngineError) {
        match self {
            Self::Events(events) => drop(events.try_send(Err(error))),
            Self::Warm(reply) => drop(reply.take().map(|reply| reply.send(Err(error)))),
        }
    }

    pub(super) fn warmed(&mut self, warmed: Warmed) {
        if let Self::Warm(reply) = self {
            drop(reply.take().map(|reply| reply.send(Ok(warmed))));
        }
    }
}
