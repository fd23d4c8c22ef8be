//! The engine: one thread owns model, context and adapters; everybody else talks to it through [`Engine`].
//!
//! What does not need the context happens outside of that thread, on the blocking pool: header checks, chat
//! template and tokenising. So a question about size is answered while a long answer is being generated.

mod error;
mod generate;
mod loaded;
mod logits;
mod output;
mod sampling;
mod session;
mod stop;
mod utf8;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;

use crate::gguf::{self, AdapterHeader};
use crate::prompt::Input;
pub(crate) use error::EngineError;
pub(crate) use loaded::{LoadModel, ModelInfo};
use loaded::{Loaded, ModelFile};
pub(crate) use sampling::Sampling;
use worker::{AdapterFile, Command, Counters, Job, Worker};

/// Requests that may wait for the engine; one more is refused with [`EngineError::Busy`].
pub(crate) const QUEUE: usize = 8;

/// A request for an answer.
pub(crate) struct Generate {
    /// For the log only.
    pub(crate) request_id: String,
    pub(crate) input: Input,
    pub(crate) adapter: Option<AdapterChoice>,
    /// `None`: up to the end of the context.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
}

/// A loaded adapter, and how strongly it is applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AdapterChoice {
    pub(crate) id: String,
    pub(crate) scale: f32,
}

/// What happens to a request, in this order: one `Started`, any number of `Delta`s, one `Finished`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Started { input_tokens: usize },
    Delta { text: String, output_tokens: usize },
    Finished(Summary),
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    pub(crate) reason: FinishReason,
    pub(crate) input_tokens: usize,
    /// Without the token that ended the turn.
    pub(crate) output_tokens: usize,
    pub(crate) prefill: std::time::Duration,
    pub(crate) generation: std::time::Duration,
    /// Natural logarithm, mean over the sampled tokens, the ending one included; 0 when there were none.
    pub(crate) mean_logprob: f32,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinishReason {
    /// The model ended its turn, or a stop string came.
    Stop,
    /// The limit of the request or the end of the context.
    Length,
    /// Nobody listens any more.
    Cancelled,
}

/// The events of one request. Dropping it cancels the request within one token.
pub(crate) type Events = mpsc::Receiver<Result<Event, EngineError>>;

/// How the engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) model_loaded: bool,
    pub(crate) busy: bool,
    pub(crate) queued: usize,
    pub(crate) tokens_generated: u64,
}

/// A size, and what it has to fit in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) tokens: usize,
    pub(crate) context_tokens: usize,
}

/// The handle. The thread ends when the last clone is gone and the running request has noticed.
#[derive(Clone)]
pub(crate) struct Engine {
    commands: mpsc::Sender<Command>,
    loaded: watch::Receiver<Option<Arc<Loaded>>>,
    counters: Arc<Counters>,
}

impl Engine {
    /// Starts the thread. The second value resolves when the thread has ended, for whatever reason.
    pub(crate) fn start() -> std::io::Result<(Self, oneshot::Receiver<()>)> {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let (publish, loaded) = watch::channel(None);
        let counters = Arc::new(Counters::default());
        let shared = Arc::clone(&counters);
        let (ended, has_ended) = oneshot::channel();
        thread::Builder::new().name("engine".to_owned()).spawn(move || {
            // Dropped last, and also when the thread panics.
            let _ended: oneshot::Sender<()> = ended;
            Worker::new(inbox, publish, shared).run();
        })?;
        Ok((Self { commands, loaded, counters }, has_ended))
    }

    pub(crate) fn load(&self) -> Load {
        Load {
            model_loaded: self.loaded.borrow().is_some(),
            busy: self.counters.is_busy(),
            queued: self.commands.max_capacity() - self.commands.capacity(),
            tokens_generated: self.counters.tokens(),
        }
    }

    /// Replaces the model. Until the new one is ready the old one answers, and if it never is, stays.
    pub(crate) async fn load_model(&self, request: LoadModel) -> Result<ModelInfo, EngineError> {
        let file = blocking(move || ModelFile::check(&request)).await?;
        self.ask(|reply| Command::LoadModel { file: Box::new(file), reply }).await
    }

    /// Checks an adapter's header against the loaded model; llama.cpp does not see the file.
    pub(crate) async fn inspect_adapter(&self, path: PathBuf) -> Result<AdapterHeader, EngineError> {
        let loaded = self.current()?;
        blocking(move || Ok(open_adapter(&loaded, path)?.header)).await
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
        let tokens = blocking(move || Ok(loaded.tokens(&input)?.len())).await?;
        Ok(Count { tokens, context_tokens })
    }

    /// Queues a request. Everything that can be wrong with it by itself is an error here, not an event.
    pub(crate) async fn generate(&self, request: Generate) -> Result<Events, EngineError> {
        request.sampling.check()?;
        stop::check(&request.stop)?;
        if request.adapter.as_ref().is_some_and(|adapter| !adapter.scale.is_finite()) {
            return Err(EngineError::BadRequest("the adapter's scale is not a finite number"));
        }
        let loaded = self.current()?;
        let Generate { request_id, input, adapter, max_tokens, sampling, stop } = request;
        let counted = Arc::clone(&loaded);
        let tokens = blocking(move || counted.fitting_tokens(&input)).await?;
        // One slot for each event there can be: a slow reader never holds up the engine, and the bound is
        // real.
        let budget = loaded.context_tokens() - tokens.len();
        let budget = max_tokens.map_or(budget, |limit| limit.min(budget));
        let (events, receiver) = mpsc::channel(budget + 4);
        let job = Job { request_id, loaded, tokens, adapter, budget, sampling, stop, events };
        match self.commands.try_send(Command::Generate(Box::new(job))) {
            Ok(()) => Ok(receiver),
            Err(mpsc::error::TrySendError::Full(_)) => Err(EngineError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(EngineError::Stopped),
        }
    }

    fn current(&self) -> Result<Arc<Loaded>, EngineError> {
        self.loaded.borrow().clone().ok_or(EngineError::NoModel)
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
