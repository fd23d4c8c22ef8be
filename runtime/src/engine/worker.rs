//! The engine's thread: takes one command after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot, watch};

use super::loaded::{Loaded, ModelFile};
use super::session::Session;
use super::{AdapterChoice, EngineError, Event, ModelInfo, Sampling, generate};
use crate::gguf::{AdapterHeader, OpenFile};
use crate::llama::Token;

type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// What the thread can be asked to do.
pub(super) enum Command {
    LoadModel { file: Box<ModelFile>, reply: Reply<ModelInfo> },
    LoadAdapter { id: String, file: Box<AdapterFile>, reply: Reply<AdapterHeader> },
    UnloadAdapter { id: String, reply: Reply<()> },
    Generate(Box<Job>),
}

/// An adapter file that passed the checks against `loaded`.
pub(super) struct AdapterFile {
    pub(super) loaded: Arc<Loaded>,
    pub(super) open: OpenFile,
    pub(super) header: AdapterHeader,
}

/// A request for an answer, ready to run: its tokens fit the context.
pub(super) struct Job {
    pub(super) request_id: String,
    /// The model the tokens belong to.
    pub(super) loaded: Arc<Loaded>,
    pub(super) tokens: Vec<Token>,
    pub(super) adapter: Option<AdapterChoice>,
    /// Most tokens of the answer, at least one.
    pub(super) budget: usize,
    pub(super) sampling: Sampling,
    pub(super) stop: Vec<String>,
    pub(super) events: mpsc::Sender<Result<Event, EngineError>>,
}

impl Job {
    pub(super) fn send(&self, event: Event) {
        // The channel has room for every event of the answer; it is closed when nobody listens any more.
        let _gone = self.events.try_send(Ok(event));
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }
}

/// What other threads may know about the engine while it works.
#[derive(Debug, Default)]
pub(super) struct Counters {
    busy: AtomicBool,
    tokens: AtomicU64,
}

impl Counters {
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Tokens generated since the start.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    pub(super) fn count_token(&self) {
        self.tokens.fetch_add(1, Ordering::Relaxed);
    }
}

/// Owns the session; runs until the last handle is gone.
pub(super) struct Worker {
    inbox: mpsc::Receiver<Command>,
    publish: watch::Sender<Option<Arc<Loaded>>>,
    counters: Arc<Counters>,
    session: Option<Session>,
}

impl Worker {
    pub(super) fn new(
        inbox: mpsc::Receiver<Command>,
        publish: watch::Sender<Option<Arc<Loaded>>>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { inbox, publish, counters, session: None }
    }

    pub(super) fn run(mut self) {
        while let Some(command) = self.inbox.blocking_recv() {
            self.counters.busy.store(true, Ordering::Relaxed);
            self.perform(command);
            self.counters.busy.store(false, Ordering::Relaxed);
        }
    }

    fn perform(&mut self, command: Command) {
        // Whoever asked may be gone by now; then the reply is nobody's.
        match command {
            Command::LoadModel { file, reply } => drop(reply.send(self.load_model(*file))),
            Command::LoadAdapter { id, file, reply } => {
                drop(reply.send(self.session().and_then(|session| session.load_adapter(id, &file))));
            }
            Command::UnloadAdapter { id, reply } => {
                drop(reply.send(self.session().and_then(|session| session.unload_adapter(&id))));
            }
            Command::Generate(job) => {
                if job.is_abandoned() {
                    return;
                }
                if let Err(error) = self.generate(&job) {
                    let _gone = job.events.try_send(Err(error));
                }
            }
        }
    }

    fn session(&mut self) -> Result<&mut Session, EngineError> {
        self.session.as_mut().ok_or(EngineError::NoModel)
    }

    fn load_model(&mut self, file: ModelFile) -> Result<ModelInfo, EngineError> {
        let session = Session::load(file)?;
        let info = session.loaded.info.clone();
        tracing::info!(
            name = info.name,
            architecture = info.architecture,
            context_tokens = info.context_tokens,
            threads = info.threads,
            "model loaded"
        );
        self.publish.send_replace(Some(Arc::clone(&session.loaded)));
        self.session = Some(session);
        Ok(info)
    }

    fn generate(&mut self, job: &Job) -> Result<(), EngineError> {
        let counters = Arc::clone(&self.counters);
        let session = self.session()?;
        if !Arc::ptr_eq(&job.loaded, &session.loaded) {
            return Err(EngineError::ModelReplaced);
        }
        let outcome = generate::run(session, job, &counters);
        if matches!(outcome, Err(EngineError::NotFinite)) {
            session.context.wipe();
        }
        outcome
    }
}
