//! How the rest of the daemon speaks to the model: calls that wait a bounded while for a model that is loading, and
//! end at once when the process behind them dies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use synesis_proto::runtime::v1::runtime_client::RuntimeClient;
use synesis_proto::runtime::v1::{
    AdapterInfo, CountTokensReply, CountTokensRequest, GenerateRequest, HealthReply, HealthRequest,
    InspectAdapterRequest, LoadAdapterRequest, UnloadAdapterRequest,
};
use synesis_proto::{Problem, reason};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::{Answer, ModelError, ModelState, ModelStatus};

/// How long a call waits for a model that is loading: a restart after a crash takes well under a second with a
/// small model, so the next prompt after a crash just works.
const PATIENCE: Duration = Duration::from_secs(15);
/// Limits of the calls that should be quick. Generating has none: the caller decides, by dropping the answer.
const QUICK: Duration = Duration::from_secs(30);
const LOADING: Duration = Duration::from_secs(120);

/// One living model process.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) client: RuntimeClient<Channel>,
    /// Cancelled when the process has ended, or its connection broke, which is the same: a process without a
    /// connection is replaced.
    pub(super) gone: CancellationToken,
}

impl Link {
    /// What a status means. The first call to notice a broken connection says so to everybody, so that the next call
    /// waits for the restart instead of failing on the same connection.
    pub(super) fn refusal(gone: &CancellationToken, status: &Status) -> ModelError {
        let error = refusal(status);
        if matches!(error, ModelError::Crashed) {
            gone.cancel();
        }
        error
    }
}

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
}

impl ModelHandle {
    pub(super) fn new(status: ModelStatus) -> Self {
        Self {
            shared: Arc::new(Shared {
                status: watch::Sender::new(Arc::new(status)),
                link: watch::Sender::new(None),
                wanted: Mutex::new(BTreeMap::new()),
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
        let Link { mut client, gone } = self.link().await?;
        let events = tokio::select! {
            biased;
            response = client.generate(request) => response.map_err(|status| Link::refusal(&gone, &status))?.into_inner(),
            () = gone.cancelled() => return Err(ModelError::Crashed),
        };
        Ok(Answer::new(events, gone))
    }

    /// How many tokens an input takes once the chat template is applied.
    ///
    /// # Errors
    /// The model is not there, or cannot read the input.
    pub async fn count_tokens(&self, request: CountTokensRequest) -> Result<CountTokensReply, ModelError> {
        self.call(QUICK, async |mut client| client.count_tokens(request).await).await
    }

    /// Reads an adapter file's header and checks it against the loaded model.
    ///
    /// # Errors
    /// `ADAPTER_INVALID` when the file is no adapter for this model.
    pub async fn inspect_adapter(&self, path: &Path) -> Result<AdapterInfo, ModelError> {
        let request = InspectAdapterRequest { path: text(path)?, check_values: true };
        self.call(QUICK, async |mut client| client.inspect_adapter(request).await).await
    }

    /// Loads and warms an adapter. From then on it is loaded again whenever the process is restarted. Loading one that
    /// is loaded changes nothing.
    ///
    /// # Errors
    /// The model is not there, or the adapter does not fit it.
    pub async fn load_adapter(&self, id: &str, path: &Path) -> Result<AdapterInfo, ModelError> {
        let request = LoadAdapterRequest { id: id.to_owned(), path: text(path)? };
        let info = self.call(LOADING, async |mut client| client.load_adapter(request).await).await?;
        self.want_adapter(id, path);
        self.shared.status.send_modify(|status| {
            let status = Arc::make_mut(status);
            status.loaded_adapters.insert(id.to_owned());
            status.refused_adapters.remove(id);
        });
        Ok(info)
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

    async fn call<T>(
        &self,
        limit: Duration,
        call: impl AsyncFnOnce(RuntimeClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, ModelError> {
        let Link { client, gone } = self.link().await?;
        tokio::select! {
            biased;
            answer = timeout(limit, call(client)) => match answer {
                Ok(Ok(response)) => Ok(response.into_inner()),
                Ok(Err(status)) => Err(Link::refusal(&gone, &status)),
                Err(_) => Err(ModelError::TimedOut),
            },
            () = gone.cancelled() => Err(ModelError::Crashed),
        }
    }

    /// The process that serves the model, waiting for one that is loading.
    async fn link(&self) -> Result<Link, ModelError> {
        timeout(PATIENCE, self.settled_link()).await.map_err(|_| ModelError::NotReady)?
    }

    async fn settled_link(&self) -> Result<Link, ModelError> {
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
                    let link = self.shared.link.borrow().clone();
                    if let Some(link) = link.filter(|link| !link.gone.is_cancelled()) {
                        return Ok(link);
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
}

/// What a status of the model process means. Its own refusals carry a reason; without one it is the connection
/// that failed, and the connection lives exactly as long as the process.
pub(super) fn refusal(status: &Status) -> ModelError {
    let problem = Problem::from_status(status);
    if reason::ALL.contains(&problem.reason.as_str()) {
        return ModelError::Refused(problem);
    }
    match status.code() {
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted => {
            ModelError::Crashed
        }
        code => ModelError::Protocol(format!("{code:?}: {}", status.message())),
    }
}

fn text(path: &Path) -> Result<String, ModelError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| ModelError::Protocol(format!("path {path:?} is not UTF-8")))
}
