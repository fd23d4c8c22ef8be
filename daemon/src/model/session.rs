//! The life of one model process: start, load the model, bring the adapters back, answer, end.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use synesis_proto::runtime::v1::runtime_client::RuntimeClient;
use synesis_proto::runtime::v1::{
    EstimateModelRequest, HealthRequest, LoadAdapterRequest, LoadModelRequest, MemoryEstimate, ModelInfo,
};
use synesis_proto::{Problem, channel};
use synesis_supervise::child::{ChildError, ChildProcess, ChildSpec, ExitStatus};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::link::{Link, refusal};
use super::{EngineLoad, ModelError, ModelHandle, ModelSpec};

/// A big model on a slow disk; longer than this is a hang.
const LOAD_LIMIT: Duration = Duration::from_secs(600);
/// The connection ends a little before the process is reaped.
const REAP: Duration = Duration::from_secs(2);
/// Probes without an answer until the process counts as hung.
const MISSED_PROBES: u32 = 3;
/// The same while it loads: reading a large file slows the whole machine down.
const MISSED_WHILE_LOADING: u32 = 10;
/// With work and without a finished step for this long, the engine counts as hung, however well the rest answers. The
/// longest step is a batch of a long prompt on a slow machine, which takes seconds.
const STALLED: Duration = Duration::from_secs(120);

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

/// Speaks to a process over `stream`; `ended` resolves when it ends.
async fn connect(
    stream: UnixStream,
    ended: impl Future<Output = ExitStatus>,
) -> Result<Channel, SessionError> {
    let died = |how: ExitStatus| SessionError::Died { during: Phase::LoadingModel, how: how.to_string() };
    let mut ended = pin!(ended);
    tokio::select! {
        channel = channel::over(stream) => match channel {
            Ok(channel) => Ok(channel),
            // As a rule it was killed this very moment, and its end of the connection went first.
            Err(error) => Err(match timeout(REAP, ended).await {
                Ok(how) => died(how),
                Err(_) => SessionError::Connect(error),
            }),
        },
        how = &mut ended => Err(died(how)),
    }
}

/// A started process and the connection to it. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Session {
    child: ChildProcess,
    link: Link,
    probe_every: Duration,
}

impl Session {
    /// Starts a process that may read `file`, which the quarantine knows as `model`.
    pub(super) async fn start(how: &ModelSpec, file: &Path, model: String) -> Result<Self, SessionError> {
        let program = how.program();
        // Without these, OpenMP's spinning collapses under contention, and a crash prints a backtrace through gdb.
        let mut spec = ChildSpec::new(&program).env("GOMP_SPINCOUNT", "10000").env("GGML_NO_BACKTRACE", "1");
        for argument in how.arguments(file) {
            spec = spec.arg(argument);
        }
        if let Some(filter) = std::env::var_os("SYNESIS_LOG") {
            spec = spec.env("SYNESIS_LOG", filter);
        }
        let mut child = ChildProcess::spawn(&spec)?;
        let stream = child
            .take_stream()
            .ok_or_else(|| SessionError::Connect(std::io::Error::from(std::io::ErrorKind::NotConnected)))?;
        let channel = connect(stream, child.wait()).await?;
        tracing::info!(pid = child.pid(), program = %program.display(), "model process started");
        Ok(Self { child, link: Link::new(channel, model), probe_every: how.probe_every })
    }

    pub(super) fn link(&self) -> Link {
        self.link.clone()
    }

    /// What a model file would take, from its header alone. A file that is hostile to whoever reads it ends this
    /// process, so it is asked of one that serves nobody.
    pub(super) async fn estimate(
        &self,
        request: EstimateModelRequest,
    ) -> Result<MemoryEstimate, SessionError> {
        self.call(Phase::LoadingModel, async |mut client| client.estimate_model(request).await).await
    }

    pub(super) async fn load_model(&self, request: LoadModelRequest) -> Result<ModelInfo, SessionError> {
        self.call(Phase::LoadingModel, async |mut client| client.load_model(request).await).await
    }

    /// Loads one adapter.
    pub(super) async fn load_adapter(&self, id: &str, path: &Path) -> Result<(), SessionError> {
        let request = LoadAdapterRequest { id: id.to_owned(), path: path.to_string_lossy().into_owned() };
        let during = Phase::LoadingAdapter(id.to_owned());
        self.call(during, async |mut client| client.load_adapter(request).await).await.map(drop)
    }

    /// Resolves when the process has died or has stopped answering. Until then its heartbeats go to `handle`.
    pub(super) async fn ended(&self, handle: &ModelHandle) -> SessionError {
        let how = tokio::select! {
            status = self.child.wait() => status.to_string(),
            () = self.link.gone.cancelled() => self.how_it_broke().await,
            how = self.hung(MISSED_PROBES, Some(handle)) => how,
        };
        SessionError::Died { during: Phase::Serving, how }
    }

    /// Leaves the calls that are under way `limit` to end, then ends the process.
    pub(super) async fn retire(self, limit: Duration, grace: Duration) {
        self.link.drain(limit).await;
        self.stop(grace).await;
    }

    /// Ends the process: politely, then not.
    pub(super) async fn stop(mut self, grace: Duration) {
        self.link.gone.cancel();
        let status = self.child.stop(grace).await;
        tracing::debug!(%status, "model process ended");
    }

    /// Resolves when so many probes in a row had no answer; while it serves, also when its engine makes no progress.
    async fn hung(&self, limit: u32, serving: Option<&ModelHandle>) -> String {
        let mut client = self.link.client.clone();
        let mut times = interval(self.probe_every);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missed = 0;
        while missed < limit {
            times.tick().await;
            missed = match timeout(self.probe_every, client.health(HealthRequest {})).await {
                Ok(Ok(health)) => {
                    if let Some(handle) = serving {
                        let health = health.into_inner();
                        handle.beat(EngineLoad::from(&health));
                        let stalled = Duration::from_millis(health.stalled_ms);
                        if stalled > STALLED {
                            let seconds = stalled.as_secs();
                            return format!(
                                "its engine made no progress for {seconds} s and is being replaced"
                            );
                        }
                    }
                    0
                }
                Ok(Err(_)) | Err(_) => missed + 1,
            };
        }
        "it stopped answering and is being replaced".to_owned()
    }

    async fn call<T>(
        &self,
        during: Phase,
        call: impl AsyncFnOnce(RuntimeClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, SessionError> {
        let answer = tokio::select! {
            answer = timeout(LOAD_LIMIT, call(self.link.client.clone())) => answer,
            how = self.child.wait() => return Err(SessionError::Died { during, how: how.to_string() }),
            how = self.hung(MISSED_WHILE_LOADING, None) => return Err(SessionError::Died { during, how }),
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

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    fn broken() -> UnixStream {
        UnixStream::pair().unwrap().0
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_is_killed_before_it_is_spoken_to_has_died() {
        let ended = async {
            sleep(REAP / 2).await;
            ExitStatus::Unknown("killed".to_owned())
        };
        let error = connect(broken(), ended).await.unwrap_err();
        assert!(matches!(&error, SessionError::Died { how, .. } if how.contains("killed")), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_lives_and_cannot_be_spoken_to_is_another_matter() {
        let error = connect(broken(), std::future::pending()).await.unwrap_err();
        assert!(matches!(error, SessionError::Connect(_)), "{error:?}");
    }
}
