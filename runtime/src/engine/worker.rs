//! The engine's thread: commands between two steps, requests into free sequences, a step, and again.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::job::{Asked, Command, Job, Reply};
use super::loaded::Loaded;
use super::queue::FairQueue;
use super::session::Session;
use super::vectors::Embedder;
use super::vitals::Vitals;
use super::{EngineError, Idle, ModelInfo};

/// Owns what is computed with; runs until the last handle is gone.
pub(super) struct Worker {
    inbox: mpsc::Receiver<Command>,
    publish: watch::Sender<Option<Arc<Loaded>>>,
    vitals: Arc<Vitals>,
    loaded: Option<Arc<Loaded>>,
    /// `None` also when the loaded model writes no text.
    session: Option<Session>,
    vectors: Embedder,
    queue: FairQueue<Job>,
    /// Models that wait for the requests before them.
    installs: VecDeque<Install>,
}

struct Install {
    loaded: Arc<Loaded>,
    reply: Reply<ModelInfo>,
    /// Requests that came later.
    late: Vec<Asked>,
}

impl Worker {
    pub(super) fn new(
        inbox: mpsc::Receiver<Command>,
        publish: watch::Sender<Option<Arc<Loaded>>>,
        idle: watch::Sender<Option<Idle>>,
        vitals: Arc<Vitals>,
    ) -> Self {
        let vectors = Embedder::new(idle, Arc::clone(&vitals));
        let (queue, installs) = (FairQueue::new(), VecDeque::new());
        Self { inbox, publish, vitals, loaded: None, session: None, vectors, queue, installs }
    }

    pub(super) fn run(mut self) {
        while self.take_commands() {
            self.install_when_idle();
            self.admit();
            if let Some(session) = &mut self.session {
                session.step();
            }
            self.vectors.step(self.loaded.as_ref());
            self.vitals.stepped(self.has_work());
        }
    }

    fn has_work(&self) -> bool {
        let computes = self.session.as_ref().is_some_and(|session| !session.is_idle());
        computes || !self.vectors.is_idle() || !self.queue.is_empty() || !self.installs.is_empty()
    }

    /// Performs what was asked; waits for something when there is nothing else to do. False when nobody can ask
    /// any more.
    fn take_commands(&mut self) -> bool {
        if !self.has_work() {
            let Some(command) = self.inbox.blocking_recv() else { return false };
            self.vitals.stepped(true);
            self.perform(command);
        }
        loop {
            match self.inbox.try_recv() {
                Ok(command) => self.perform(command),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn perform(&mut self, command: Command) {
        // Whoever asked may be gone by now; then the reply is nobody's.
        match command {
            Command::Install { loaded, reply } => {
                self.installs.push_back(Install { loaded, reply, late: Vec::new() });
            }
            Command::LoadAdapter { id, file, reply } => {
                drop(reply.send(self.session().and_then(|session| session.load_adapter(id, &file))));
            }
            Command::UnloadAdapter { id, reply } => {
                drop(reply.send(self.session().and_then(|session| session.unload_adapter(&id))));
            }
            Command::Run(asked) => match self.installs.back_mut() {
                None => self.enqueue(asked),
                Some(install) => install.late.push(asked),
            },
            Command::Tidy { uses } => self.vectors.clear_unused_since(uses),
        }
    }

    fn enqueue(&mut self, asked: Asked) {
        match asked {
            Asked::Answer(job) => self.queue.push(&job.owner.clone(), *job),
            Asked::Vectors(job) => self.vectors.push(job),
        }
    }

    fn session(&mut self) -> Result<&mut Session, EngineError> {
        self.session.as_mut().ok_or(without_session(self.loaded.as_deref()))
    }

    /// A new model takes over between two requests. If it cannot, the old one stays.
    fn install_when_idle(&mut self) {
        while self.queue.is_empty()
            && self.vectors.is_idle()
            && self.session.as_ref().is_none_or(Session::is_idle)
        {
            let Some(Install { loaded, reply, late }) = self.installs.pop_front() else { return };
            let outcome = self.replace(loaded);
            late.into_iter().for_each(|asked| self.enqueue(asked));
            drop(reply.send(outcome));
        }
    }

    /// Tries the model first.
    fn replace(&mut self, loaded: Arc<Loaded>) -> Result<ModelInfo, EngineError> {
        let session = if loaded.info.writes_text {
            Some(Session::new(Arc::clone(&loaded), Arc::clone(&self.vitals))?)
        } else {
            Embedder::try_out(&loaded)?;
            None
        };
        let info = loaded.info.clone();
        tracing::info!(
            name = info.name,
            architecture = info.architecture,
            context_tokens = info.context_tokens,
            parallel = info.parallel,
            threads = info.threads,
            memory_bytes = info.memory_bytes,
            "model loaded"
        );
        self.vitals.set_room(usize::from(loaded.room.context.parallel), loaded.room.queue);
        self.session = session;
        self.vectors.clear();
        self.loaded = Some(Arc::clone(&loaded));
        self.publish.send_replace(Some(loaded));
        Ok(info)
    }

    /// Requests into free sequences, in the order of the queue.
    fn admit(&mut self) {
        self.queue.retain(|job| !job.listener.is_gone());
        let Some(session) = &mut self.session else {
            while let Some(mut job) = self.queue.pop() {
                job.listener.fail(without_session(self.loaded.as_deref()));
            }
            return;
        };
        session.drop_abandoned();
        while session.has_room() {
            let Some(mut job) = self.queue.pop() else { return };
            if Arc::ptr_eq(&job.loaded, &session.loaded) {
                session.admit(job, Instant::now());
            } else {
                job.listener.fail(EngineError::ModelReplaced);
            }
        }
    }
}

/// Why there is nothing that answers.
fn without_session(loaded: Option<&Loaded>) -> EngineError {
    match loaded {
        None => EngineError::NoModel,
        Some(_) => EngineError::WritesNothing,
    }
}
