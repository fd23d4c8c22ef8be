//! The life of one model process: start, load the model, bring the adapters back, answer, end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use synesis_proto::runtime::v1::runtime_client::RuntimeClient;
use synesis_proto::runtime::v1::{HealthRequest, LoadAdapterRequest, LoadModelRequest, ModelInfo};
use synesis_proto::{Problem, channel};
use synesis_supervise::child::{ChildError, ChildProcess, ChildSpec};
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::ModelError;
use super::handle::{Link, refusal};

/// A big model on a slow disk; longer than this is a hang.
const LOAD_LIMIT: Duration = Duration::from_secs(600);
/// The connection ends a little before the process is reaped.
const REAP: Duration = Duration::from_secs(2);
/// Probes without an answer until the process counts as hung.
const MISSED_PROBES: u32 = 3;

/// Why a model process does not serve.
#[derive(Debug, Error)]
pub(super) enum SessionError {
    #[error("the model process cannot be started")]
    Spawn(#[from] ChildError),
    #[error("the model process cannot be spoken to")]
    Connect(#[source] std::io::Error),
    /// It said no, and lives.
    #[error("{0}")]
    Refused(Problem),
    /// It ended, or was ended, in the middle of something.
    #[error("the model process ended while {during}: {how}")]
    Died { during: Phase, how: String },
}

/// What a process was doing when it died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    LoadingModel,
    LoadingAdapter(String),
    Serving,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LoadingModel => "loading the model",
            Self::LoadingAdapter(_) => "loading an adapter",
            Self::Serving => "serving",
        })
    }
}

/// A started process and the connection to it. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Session {
    child: ChildProcess,
    link: Link,
}

/// Adapters after a (re)start: those that are loaded, and those that were refused, with the reason.
pub(super) type Adapters = (BTreeSet<String>, BTreeMap<String, String>);

impl Session {
    pub(super) async fn start(program: &Path) -> Result<Self, SessionError> {
        // Without these, OpenMP's spinning collapses under contention, and a crash prints a backtrace through gdb.
        let mut spec = ChildSpec::new(program).env("GOMP_SPINCOUNT", "1000").env("GGML_NO_BACKTRACE", "1");
        if let Some(filter) = std::env::var_os("SYNESIS_LOG") {
            spec = spec.env("SYNESIS_LOG", filter);
        }
        let mut child = ChildProcess::spawn(&spec)?;
        let stream = child
            .take_stream()
            .ok_or_else(|| SessionError::Connect(std::io::Error::from(std::io::ErrorKind::NotConnected)))?;
        let channel = tokio::select! {
            channel = channel::over(stream) => channel.map_err(SessionError::Connect)?,
            how = child.wait() => {
                return Err(SessionError::Died { during: Phase::LoadingModel, how: how.to_string() });
            }
        };
        tracing::info!(pid = child.pid(), program = %program.display(), "model process started");
        Ok(Self { child, link: Link { client: RuntimeClient::new(channel), gone: CancellationToken::new() } })
    }

    pub(super) fn link(&self) -> Link {
        self.link.clone()
    }

    pub(super) async fn load_model(&self, request: LoadModelRequest) -> Result<ModelInfo, SessionError> {
        self.call(Phase::LoadingModel, async |mut client| client.load_model(request).await).await
    }

    /// Loads what the previous process had. One that is refused does not keep the model from answering.
    pub(super) async fn load_adapters(
        &self,
        wanted: BTreeMap<String, PathBuf>,
    ) -> Result<Adapters, SessionError> {
        let (mut loaded, mut refused) = (BTreeSet::new(), BTreeMap::new());
        for (id, path) in wanted {
            let request = LoadAdapterRequest { id: id.clone(), path: path.to_string_lossy().into_owned() };
            let during = Phase::LoadingAdapter(id.clone());
            match self.call(during, async |mut client| client.load_adapter(request).await).await {
                Ok(_) => {
                    loaded.insert(id);
                }
                Err(SessionError::Refused(problem)) => {
                    refused.insert(id, problem.message);
                }
                Err(died) => return Err(died),
            }
        }
        Ok((loaded, refused))
    }

    /// Resolves when the process has died or has stopped answering.
    pub(super) async fn ended(&self, probe_every: Duration) -> SessionError {
        let how = tokio::select! {
            status = self.child.wait() => status.to_string(),
            () = self.link.gone.cancelled() => self.how_it_broke().await,
            () = self.hung(probe_every) => "it stopped answering and is being replaced".to_owned(),
        };
        SessionError::Died { during: Phase::Serving, how }
    }

    /// Ends the process: politely, then not.
    pub(super) async fn stop(mut self, grace: Duration) {
        self.link.gone.cancel();
        let status = self.child.stop(grace).await;
        tracing::debug!(%status, "model process ended");
    }

    async fn hung(&self, probe_every: Duration) {
        let mut client = self.link.client.clone();
        let mut times = interval(probe_every);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missed = 0;
        while missed < MISSED_PROBES {
            times.tick().await;
            missed = match timeout(probe_every, client.health(HealthRequest {})).await {
                Ok(Ok(_)) => 0,
                Ok(Err(_)) | Err(_) => missed + 1,
            };
        }
    }

    async fn call<T>(
        &self,
        during: Phase,
        call: impl AsyncFnOnce(RuntimeClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, SessionError> {
        let answer = tokio::select! {
            answer = timeout(LOAD_LIMIT, call(self.link.client.clone())) => answer,
            how = self.child.wait() => return Err(SessionError::Died { during, how: how.to_string() }),
        };
        let Ok(answer) = answer else {
            return Err(SessionError::Died { during, how: format!("no answer in {LOAD_LIMIT:?}") });
        };
        match answer.map_err(|status| (refusal(&status), status)) {
            Ok(response) => Ok(response.into_inner()),
            Err((ModelError::Refused(problem), _)) => Err(SessionError::Refused(problem)),
            Err((_, status)) => {
                tracing::debug!(%status, "the model process's connection failed");
                Err(SessionError::Died { during, how: self.how_it_broke().await })
            }
        }
    }

    /// Why the connection broke: as a rule the process's exit, which follows within milliseconds.
    async fn how_it_broke(&self) -> String {
        let how = timeout(REAP, self.child.wait()).await;
        how.map_or_else(|_| "its connection broke".to_owned(), |how| how.to_string())
    }
}
