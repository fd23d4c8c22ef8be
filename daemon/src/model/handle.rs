//! How the rest of the daemon speaks to the model: calls that wait a bounded while for a model that is loading, and
//! end at once when the process behind them dies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use synesis_proto::runtime::v1::runtime_client::RuntimeClient;
use synesis_proto::runtime::v1::{
    AdapterInfo, CountTokensReply, CountTokensRequest, EmbedReply, EmbedRequest, GenerateRequest,
    HealthReply, HealthRequest, InspectAdapterRequest, LoadAdapterRequest, UnloadAdapterRequest,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::link::Link;
use super::quarantine::Quarantine;
use super::replace::{LoadCommand, LoadError, Loaded};
use super::{Answer, EngineLoad, ModelError, ModelState, ModelStatus, Target};

/// How long a call waits for a model that is loading: a restart after a crash takes well under a second with a
/// small model, so the next prompt after a crash just works.
const PATIENCE: Duration = Duration::from_secs(15);
/// Limits of the calls that should be quick. Generating has none: the caller decides, by dropping the answer.
pub(super) const QUICK: Duration = Duration::from_secs(30);
pub(super) const LOADING: Duration = Duration::from_secs(120);

/// The model, whichever process runs it at the moment. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct ModelHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    status: watch::Sender<Arc<ModelStatus>>,
    link: watch::Sender<Option<Link>>,
    /// Adapters to have loaded whenever the model is ready: id (sha256) to file.
    wanted: Mutex<BTreeMap<String, PathBuf>>,
    quarantine: Quarantine,
    loads: mpsc::Sender<LoadCommand>,
}

impl ModelHandle {
    pub(super) fn new(status: ModelStatus, quarantine: Quarantine, loads: mpsc::Sender<LoadCommand>) -> Self {
        Self {
            shared: Arc::new(Shared {
                status: watch::Sender::new(Arc::new(status)),
                link: watch::Sender::new(None),
                wanted: Mutex::new(BTreeMap::new()),
                quarantine,
                loads,
            }),
        }
    }

    /// The newest status, and every change of it.
    pub fn status(&self) -> watch::Receiver<Arc<ModelStatus>> {
        self.shared.status.subscribe()
    }

    /// Starts an answer.
    ///
    /// # Errors
    /// The model is not there, or refused the request before the first token.
    pub async fn generate(&self, request: GenerateRequest) -> Result<Answer, ModelError> {
        let (link, call) = self.link().await?;
        let mut client = link.client.clone();
        let events = tokio::select! {
            biased;
            response = client.generate(request) => response.map_err(|status| link.refusal(&status))?.into_inner(),
            () = link.gone.cancelled() => return Err(link.lost()),
        };
        Ok(Answer::new(events, link, call))
    }

    /// How many tokens an input takes once the chat template is applied.
    ///
    /// # Errors
    /// The model is not there, or cannot read the input.
    pub async fn count_tokens(&self, request: CountTokensRequest) -> Result<CountTokensReply, ModelError> {
        self.call(QUICK, async |mut client| client.count_tokens(request).await).await
    }

    /// One vector for each input. It takes what it takes: whoever does not want to wait drops the call, and the work
    /// ends within one batch.
    ///
    /// # Errors
    /// The model is not there, or makes no embeddings (`NO_EMBEDDINGS`).
    pub async fn embed(&self, request: EmbedRequest) -> Result<EmbedReply, ModelError> {
        let (link, _call) = self.link().await?;
        let mut client = link.client.clone();
        tokio::select! {
            biased;
            reply = client.embed(request) => reply.map(Response::into_inner).map_err(|status| link.refusal(&status)),
            () = link.gone.cancelled() => Err(link.lost()),
        }
    }

    /// Makes another model answer. Returns when it does; answers of the old one may still be finishing then.
    ///
    /// # Errors
    /// It cannot be loaded. The old one answers again, or the error says that it does not.
    pub async fn load(&self, target: Target) -> Result<Loaded, LoadError> {
        let (reply, answer) = oneshot::channel();
        self.shared.loads.send(LoadCommand { target, reply }).await.map_err(|_| LoadError::Stopping)?;
        answer.await.map_err(|_| LoadError::Stopping)?
    }

    /// Reads an adapter file, header and numbers, and checks it against the loaded model.
    ///
    /// # Errors
    /// `ADAPTER_INVALID` when the file is no adapter for this model.
    pub async fn inspect_adapter(&self, path: &Path) -> Result<AdapterInfo, ModelError> {
        let request = InspectAdapterRequest { path: text(path)?, check_values: true };
        self.call(LOADING, async |mut client| client.inspect_adapter(request).await).await
    }

    /// Loads and warms an adapter. From then on it is loaded again whenever the process is restarted. Loading one that
    /// is loaded changes nothing.
    ///
    /// # Errors
    /// The model is not there, the adapter does not fit it, or it ended the process before and is left alone.
    pub async fn load_adapter(&self, id: &str, path: &Path) -> Result<AdapterInfo, ModelError> {
        let request = LoadAdapterRequest { id: id.to_owned(), path: text(path)? };
        let (link, under_way) = self.link().await?;
        if let Some(reason) = self.shared.quarantine.reason(link.model(), id) {
            return Err(ModelError::Quarantined(reason));
        }
        let (model, quarantine) = (link.model().to_owned(), &self.shared.quarantine);
        let info = match Self::call_on((link, under_way), LOADING, async |mut client| {
            client.load_adapter(request).await
        })
        .await
        {
            Ok(info) => info,
            Err(ModelError::Crashed) => {
                quarantine.died(&model, id, "this adapter").await;
                return Err(ModelError::Crashed);
            }
            Err(error) => return Err(error),
        };
        quarantine.survived(&model, id);
        self.want_adapter(id, path);
        self.shared.status.send_modify(|status| {
            let status = Arc::make_mut(status);
            status.loaded_adapters.insert(id.to_owned());
            status.refused_adapters.remove(id);
        });
        Ok(info)
    }

    /// Somebody asks for this adapter by name: it is tried again, whatever it did before.
    pub async fn lift_adapter(&self, id: &str) {
        self.shared.quarantine.lift_adapter(id).await;
    }

    /// Lets an adapter go, now and at later restarts.
    ///
    /// # Errors
    /// The process could not be asked; the adapter is then not loaded again at the next restart.
    pub async fn unload_adapter(&self, id: &str) -> Result<(), ModelError> {
        self.wanted().remove(id);
        let request = UnloadAdapterRequest { id: id.to_owned() };
        self.call(QUICK, async |mut client| client.unload_adapter(request).await).await?;
        self.shared.status.send_modify(|status| {
            Arc::make_mut(status).loaded_adapters.remove(id);
        });
        Ok(())
    }

    /// Has an adapter loaded before the model is next declared ready; at the start, the active one.
    pub fn want_adapter(&self, id: &str, path: &Path) {
        self.wanted().insert(id.to_owned(), path.to_owned());
    }

    /// How the model process is doing.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn health(&self) -> Result<HealthReply, ModelError> {
        self.call(QUICK, async |mut client| client.health(HealthRequest {}).await).await
    }

    pub(super) async fn call<T>(
        &self,
        limit: Duration,
        call: impl AsyncFnOnce(RuntimeClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, ModelError> {
        Self::call_on(self.link().await?, limit, call).await
    }

    async fn call_on<T>(
        (link, _under_way): (Link, TaskTrackerToken),
        limit: Duration,
        call: impl AsyncFnOnce(RuntimeClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, ModelError> {
        tokio::select! {
            biased;
            answer = timeout(limit, call(link.client.clone())) => match answer {
                Ok(Ok(response)) => Ok(response.into_inner()),
                Ok(Err(status)) => Err(link.refusal(&status)),
                Err(_) => Err(ModelError::TimedOut),
            },
            () = link.gone.cancelled() => Err(link.lost()),
        }
    }

    /// The process that serves the model, waiting for one that is loading. The token counts the call there.
    pub(super) async fn link(&self) -> Result<(Link, TaskTrackerToken), ModelError> {
        timeout(PATIENCE, self.settled_link()).await.map_err(|_| ModelError::NotReady)?
    }

    async fn settled_link(&self) -> Result<(Link, TaskTrackerToken), ModelError> {
        let mut status = self.shared.status.subscribe();
        loop {
            let now = Arc::clone(&status.borrow_and_update());
            match now.state {
                ModelState::None => return Err(ModelError::NoModel),
                ModelState::Failed => {
                    let (reason, next_step) = (now.reason.clone(), now.next_step.clone());
                    return Err(ModelError::Failed { reason, next_step });
                }
                ModelState::Loading => {}
                ModelState::Ready => {
                    // Ready with a broken link: the crash is noticed, the news of it is on its way.
                    let link = self.shared.link.borrow();
                    if let Some(link) = link.as_ref().filter(|link| !link.gone.is_cancelled()) {
                        // Counted before the borrow ends: whoever replaces the link waits for it, and so for this call.
                        return Ok((link.clone(), link.begin()));
                    }
                }
            }
            // The sender is in `self`, so there is always a next status to wait for.
            status.changed().await.map_err(|_| ModelError::NotReady)?;
        }
    }

    pub(super) fn wanted(&self) -> MutexGuard<'_, BTreeMap<String, PathBuf>> {
        self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes that `link` serves the model as `status` says.
    pub(super) fn up(&self, link: Link, status: ModelStatus) {
        self.shared.link.send_replace(Some(link));
        self.shared.status.send_replace(Arc::new(status));
    }

    /// Publishes that nothing serves the model at the moment; running calls end.
    pub(super) fn down(&self, status: ModelStatus) {
        if let Some(link) = self.shared.link.send_replace(None) {
            link.gone.cancel();
        }
        self.shared.status.send_replace(Arc::new(status));
    }

    /// Publishes that new calls have to wait; running ones go on.
    pub(super) fn hold(&self, status: ModelStatus) {
        self.shared.link.send_replace(None);
        self.shared.status.send_replace(Arc::new(status));
    }

    /// Publishes what a heartbeat said.
    pub(super) fn beat(&self, load: EngineLoad) {
        self.shared.status.send_if_modified(|status| {
            let before = status.load.map(|load| (load.active, load.queued));
            Arc::make_mut(status).load = Some(load);
            before != Some((load.active, load.queued))
        });
    }
}

pub(super) fn text(path: &Path) -> Result<String, ModelError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| ModelError::Protocol(format!("path {path:?} is not UTF-8")))
}
