//! The engine: one thread owns model, context and adapters; everybody else talks to it through [`Engine`].
//!
//! The thread computes in steps: every answer of a group gets a token, and one prompt gets on by a part. A group
//! is the sequences of one adapter at one scale, because an adapter belongs to the whole context. Deciding is
//! apart from computing: [`queue`] says whose request is next, [`prefix`] which sequence it gets, [`schedule`]
//! which group is computed.
//!
//! What does not need the context happens outside of that thread, on the blocking pool: header checks, reading
//! weights, chat template, tokenising, and compiling the shape of an answer. So a question about size is
//! answered while a long answer is being generated.

mod answer;
mod error;
mod job;
mod loaded;
mod logits;
mod output;
mod prefix;
mod queue;
mod request;
mod sampling;
mod schedule;
mod session;
mod slot;
mod stop;
mod utf8;
mod variant;
mod vectors;
mod vitals;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::gguf::{self, AdapterHeader, ModelHeader};
use crate::prompt::{Input, Opening};
pub(crate) use error::EngineError;
use job::{AdapterFile, Asked, Command, Job, Listener, Task, Wanted};
pub(crate) use loaded::{Embeddings, LoadModel, ModelInfo};
use loaded::{Loaded, ModelFile, QUEUE_LIMIT};
pub(crate) use request::{
    AdapterChoice, Batching, Count, Delta, Event, FinishReason, Generate, MOST_ALTERNATIVES, Start, Summary,
    TokenLogprob, Vector, Warmed,
};
pub(crate) use sampling::Sampling;
use variant::Variant;
use vectors::EmbedJob;
pub(crate) use vectors::Method;
pub(crate) use vitals::Load;
use vitals::{Ticket, Vitals};
use worker::Worker;

/// Commands on their way to the thread: every request that may be waiting, and some more.
const COMMANDS: usize = QUEUE_LIMIT as usize + 512;

/// Texts of one request for vectors.
const MOST_TEXTS: usize = 256;

/// The context for vectors, unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Idle {
    /// Requests there were by then.
    uses: u64,
    /// How long it is kept.
    patience: Duration,
}

/// The events of one request. Dropping it cancels the request within one token.
pub(crate) struct Events {
    receiver: mpsc::Receiver<Result<Event, EngineError>>,
    ticket: Arc<Ticket>,
}

impl Events {
    pub(crate) async fn next(&mut self) -> Option<Result<Event, EngineError>> {
        self.receiver.recv().await
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // The thread notices between two tokens; the place in the queue is free at once.
        self.ticket.give_back();
    }
}

/// The handle. The thread ends when the last clone is gone and the running step has noticed.
#[derive(Clone)]
pub(crate) struct Engine {
    commands: mpsc::Sender<Command>,
    loaded: watch::Receiver<Option<Arc<Loaded>>>,
    idle: watch::Receiver<Option<Idle>>,
    vitals: Arc<Vitals>,
}

impl Engine {
    /// Starts the thread. The second value resolves when the thread has ended, for whatever reason.
    pub(crate) fn start() -> std::io::Result<(Self, oneshot::Receiver<()>)> {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let (publish, loaded) = watch::channel(None);
        let (say_idle, idle) = watch::channel(None);
        let vitals = Arc::new(Vitals::new());
        let shared = Arc::clone(&vitals);
        let (ended, has_ended) = oneshot::channel();
        thread::Builder::new().name("engine".to_owned()).spawn(move || {
            // Dropped last, and also when the thread panics.
            let _ended: oneshot::Sender<()> = ended;
            Worker::new(inbox, publish, say_idle, shared).run();
        })?;
        Ok((Self { commands, loaded, idle, vitals }, has_ended))
    }

    pub(crate) fn load(&self) -> Load {
        self.vitals.load(self.loaded.borrow().is_some())
    }

    /// Replaces the model. Until the new one is ready the old one answers, and if it never is, stays. Requests
    /// that came before are answered by the old one; those that come while it still answers must ask again.
    pub(crate) async fn load_model(&self, request: LoadModel) -> Result<ModelInfo, EngineError> {
        let loaded = blocking(move || Loaded::load(ModelFile::check(&request)?)).await?;
        self.ask(|reply| Command::Install { loaded, reply }).await
    }

    /// The loaded model's header, for questions that need nothing else.
    pub(crate) fn header(&self) -> Result<ModelHeader, EngineError> {
        Ok(self.current()?.header.clone())
    }

    /// Checks, loads and tries an adapter. Loading an id again changes nothing.
    pub(crate) async fn load_adapter(&self, id: String, path: PathBuf) -> Result<AdapterHeader, EngineError> {
        if id.is_empty() || id.len() > 128 {
            return Err(EngineError::BadRequest("an adapter's id has 1 to 128 characters"));
        }
        let loaded = self.current()?;
        let file = blocking(move || open_adapter(&loaded, path)).await?;
        self.ask(|reply| Command::LoadAdapter { id, file: Box::new(file), reply }).await
    }

    pub(crate) async fn unload_adapter(&self, id: String) -> Result<(), EngineError> {
        self.current()?;
        self.ask(|reply| Command::UnloadAdapter { id, reply }).await
    }

    /// Tokens the input takes.
    pub(crate) async fn count_tokens(&self, input: Input) -> Result<Count, EngineError> {
        let loaded = self.current()?;
        let context_tokens = loaded.context_tokens();
        let tokens = blocking(move || Ok(loaded.tokens(&input, Opening::Answer)?.len())).await?;
        Ok(Count { tokens, context_tokens })
    }

    /// Computes what requests with this input and adapter begin with, and keeps it.
    pub(crate) async fn warm(
        &self,
        input: Input,
        adapter: Option<AdapterChoice>,
    ) -> Result<Warmed, EngineError> {
        let variant = variant(adapter.as_ref())?;
        let loaded = self.writer()?;
        let counted = Arc::clone(&loaded);
        let tokens = blocking(move || counted.fitting_tokens(&input, Opening::None)).await?;
        let ticket = self.ticket()?;
        self.ask(|reply| {
            Command::Run(Asked::Answer(Box::new(Job {
                request_id: String::new(),
                owner: String::new(),
                loaded,
                tokens,
                variant,
                batching: Batching::Shared,
                arrived: Instant::now(),
                ticket,
                task: Task::Warm,
                listener: Listener::Warm(Some(reply)),
            })))
        })
        .await
    }

    /// The vectors of texts, in their order. Dropping the call ends the work within one batch.
    pub(crate) async fn embed(&self, texts: Vec<String>, owner: String) -> Result<Vec<Vector>, EngineError> {
        let loaded = self.current()?;
        if loaded.vectors.is_none() {
            return Err(EngineError::NoEmbeddings);
        }
        if !(1..=MOST_TEXTS).contains(&texts.len()) {
            return Err(EngineError::BadRequest("a request has 1 to 256 texts"));
        }
        if texts.iter().any(|text| text.trim().is_empty()) {
            return Err(EngineError::BadRequest("a text is empty"));
        }
        let ticket = self.ticket()?;
        let counted = Arc::clone(&loaded);
        let inputs = blocking(move || counted.tokens_of_texts(&texts)).await?;
        self.ask(|reply| {
            Command::Run(Asked::Vectors(Box::new(EmbedJob { owner, loaded, inputs, ticket, reply })))
        })
        .await
    }

    /// Has the context for vectors let go when nobody asked for any in its time. Never ends by itself.
    pub(crate) async fn keep_tidy(&self) {
        let mut idle = self.idle.clone();
        loop {
            let now = *idle.borrow_and_update();
            let unused = async {
                match now {
                    Some(Idle { patience, .. }) => tokio::time::sleep(patience).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = idle.changed() => if changed.is_err() { std::future::pending::<()>().await },
                () = unused => {
                    if let Some(Idle { uses, .. }) = now {
                        let _stopped = self.commands.send(Command::Tidy { uses }).await;
                    }
                }
            }
        }
    }

    /// Queues a request. Everything that can be wrong with it by itself is an error here, not an event.
    pub(crate) async fn generate(&self, request: Generate) -> Result<Events, EngineError> {
        request.sampling.check()?;
        stop::check(&request.stop)?;
        let variant = variant(request.adapter.as_ref())?;
        if request.logprobs.is_some_and(|count| count > MOST_ALTERNATIVES) {
            return Err(EngineError::BadRequest("there are more than 20 alternatives per token"));
        }
        let loaded = self.writer()?;
        // First, so that a full queue costs nothing.
        let ticket = self.ticket()?;
        let Generate {
            request_id, input, max_tokens, sampling, stop, owner, batching, logprobs, shape, ..
        } = request;
        let prepared = Arc::clone(&loaded);
        let (tokens, constraint) = blocking(move || {
            let tokens = prepared.fitting_tokens(&input, Opening::Answer)?;
            let constraint = shape.map(|source| prepared.constraint(&source)).transpose()?;
            Ok((tokens, constraint))
        })
        .await?;
        // One slot for each event there can be: a slow reader never holds up the engine, and the bound is
        // real.
        let budget = loaded.context_tokens() - tokens.len();
        let budget = max_tokens.map_or(budget, |limit| limit.min(budget));
        let (events, receiver) = mpsc::channel(budget + 5);
        let wanted = Wanted { budget, sampling, stop, logprobs, constraint };
        let job = Job {
            request_id,
            owner,
            loaded,
            tokens,
            variant,
            batching,
            arrived: Instant::now(),
            ticket: Arc::clone(&ticket),
            task: Task::Answer(Box::new(wanted)),
            listener: Listener::Events(events),
        };
        self.commands
            .send(Command::Run(Asked::Answer(Box::new(job))))
            .await
            .map_err(|_| EngineError::Stopped)?;
        Ok(Events { receiver, ticket })
    }

    fn ticket(&self) -> Result<Arc<Ticket>, EngineError> {
        self.vitals.admit().map_err(|retry_after| EngineError::Busy { retry_after })
    }

    fn current(&self) -> Result<Arc<Loaded>, EngineError> {
        self.loaded.borrow().clone().ok_or(EngineError::NoModel)
    }

    /// The loaded model, if it writes text.
    fn writer(&self) -> Result<Arc<Loaded>, EngineError> {
        self.current().and_then(|loaded| {
            if loaded.info.writes_text { Ok(loaded) } else { Err(EngineError::WritesNothing) }
        })
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, EngineError>>) -> Command,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| EngineError::Stopped)?;
        answer.await.map_err(|_| EngineError::Stopped)?
    }
}

fn variant(adapter: Option<&AdapterChoice>) -> Result<Variant, EngineError> {
    match adapter {
        None => Ok(Variant::default()),
        Some(AdapterChoice { scale, .. }) if !scale.is_finite() => {
            Err(EngineError::BadRequest("the adapter's scale is not a finite number"))
        }
        Some(AdapterChoice { id, scale }) => Ok(Variant::adapted(id, *scale)),
    }
}

fn open_adapter(loaded: &Arc<Loaded>, path: PathBuf) -> Result<AdapterFile, EngineError> {
    let open = gguf::open(&path).map_err(EngineError::AdapterUnreadable)?;
    let header = AdapterHeader::check(&open.header, &loaded.header)?;
    Ok(AdapterFile { loaded: Arc::clone(loaded), open, header })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    spawn_blocking(work).await.unwrap_or(Err(EngineError::Stopped))
}
