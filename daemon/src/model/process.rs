//! The `runtime` subsystem: keeps a model process running, restarts it after a crash, and gives up on a file that
//! kills it every time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use synesis_proto::Problem;
use synesis_proto::runtime::v1::{LoadModelRequest, ModelInfo};
use synesis_supervise::{Backoff, BoxError, Context, Subsystem};
use tokio_util::sync::CancellationToken;

use super::session::{Phase, Session, SessionError};
use super::{ModelHandle, ModelState, ModelStatus};
use crate::config::Config;

/// Deaths in a row, while loading the same thing, after which it is not tried again.
const DEADLY: u32 = 2;
/// How long a process that is asked to leave may take.
const GRACE: Duration = Duration::from_secs(2);
/// How often a file that was refused is looked at for a change.
const RECHECK: Duration = Duration::from_secs(5);
const MISSING_FILE: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(30) };
const SET_PATH: &str = "set model.path to a GGUF file and restart synesisd";

/// Which model to run, and with what.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    /// The model process's program; none: looked for.
    pub program: Option<PathBuf>,
    /// The model's file; none: there is no local model.
    pub path: Option<PathBuf>,
    /// What users call it; none: what the file says.
    pub name: Option<String>,
    /// Context length in tokens.
    pub context_tokens: u32,
    /// Inference threads; 0: what the machine allows.
    pub threads: u32,
    /// Requests answered at the same time.
    pub parallel: u32,
    /// Requests that may wait.
    pub queue: u32,
    /// Memory for saved prefixes, in bytes.
    pub prefix_cache_bytes: u64,
    /// Most memory of the process, in bytes; 0: what the machine has.
    pub memory_limit_bytes: u64,
    /// Time between two health probes; three without an answer and the process is replaced.
    pub probe_every: Duration,
}

impl From<&Config> for ModelSpec {
    fn from(config: &Config) -> Self {
        Self {
            program: config.runtime.program.as_deref().map(Path::to_owned),
            path: config.model.path.as_deref().map(Path::to_owned),
            name: config.model.name.clone(),
            context_tokens: config.model.context_tokens,
            threads: config.model.threads,
            parallel: config.model.parallel,
            queue: config.model.queue,
            prefix_cache_bytes: config.model.prefix_cache_bytes,
            memory_limit_bytes: config.runtime.memory_max_bytes,
            probe_every: Duration::from_secs(10),
        }
    }
}

impl ModelSpec {
    /// The program: as configured, else beside this one, else where the package puts it.
    fn program(&self) -> PathBuf {
        let beside = || Some(std::env::current_exe().ok()?.with_file_name("synesis-runtime"));
        self.program
            .clone()
            .or_else(|| beside().filter(|path| path.exists()))
            .unwrap_or_else(|| PathBuf::from("/usr/lib/synesis/synesis-runtime"))
    }

    fn name(&self, info: Option<&ModelInfo>) -> String {
        let stem = || self.path.as_deref()?.file_stem()?.to_str().map(str::to_owned);
        let own = || info.map(|info| info.name.clone()).filter(|name| !name.is_empty());
        self.name.clone().or_else(own).or_else(stem).unwrap_or_default()
    }
}

/// Keeps the model process running. See the module's first sentence.
#[derive(Debug)]
pub struct RuntimeProcess {
    spec: ModelSpec,
    handle: ModelHandle,
    /// Loads of the model in a row that killed the process.
    deadly_model_loads: u32,
    /// The same per adapter.
    deadly_adapter_loads: BTreeMap<String, u32>,
    /// Adapters that are not brought back any more, with the reason.
    quarantined_adapters: BTreeMap<String, String>,
}

/// How a process came to its end without an error of the subsystem.
enum Ended {
    Stopping,
    Refused(Problem),
}

impl RuntimeProcess {
    /// The subsystem and the handle through which it is used.
    pub fn new(spec: ModelSpec) -> (Self, ModelHandle) {
        let state = if spec.path.is_some() { ModelState::Loading } else { ModelState::None };
        let handle = ModelHandle::new(ModelStatus::new(state, spec.name(None), spec.path.clone()));
        let process = Self {
            spec,
            handle: handle.clone(),
            deadly_model_loads: 0,
            deadly_adapter_loads: BTreeMap::new(),
            quarantined_adapters: BTreeMap::new(),
        };
        (process, handle)
    }

    fn status(&self, state: ModelState, info: Option<ModelInfo>) -> ModelStatus {
        let mut status = ModelStatus::new(state, self.spec.name(info.as_ref()), self.spec.path.clone());
        status.info = info;
        status
    }

    /// Publishes that there is no model to answer, in the status and on the health board.
    fn down(&self, cx: &Context, state: ModelState, reason: &str, next_step: &str) {
        // The board first, and a reader takes the model's status first: whoever sees the new state sees its reason.
        cx.degraded(reason, next_step);
        self.handle.down(self.status(state, None).because(reason, next_step));
        cx.ready();
    }

    /// Serves from one process until it ends.
    async fn serve(&mut self, path: &Path, cx: &Context) -> Result<Ended, SessionError> {
        let stopping = cx.stopping();
        let session = Session::start(&self.spec.program()).await?;
        let ended = tokio::select! {
            ended = self.converse(&session, path, cx) => ended,
            () = stopping.cancelled() => Ok(Ended::Stopping),
        };
        // Callers learn it first; the process may take its grace.
        match &ended {
            Err(error) => self.down(
                cx,
                ModelState::Loading,
                &error.to_string(),
                "it is being restarted; try again in a moment",
            ),
            Ok(Ended::Stopping) => self.down(cx, ModelState::Loading, "synesisd is stopping", ""),
            Ok(Ended::Refused(problem)) => {
                let reason = format!("{}: {}", path.display(), problem.message);
                self.down(cx, ModelState::Failed, &reason, &problem.next_step)
            }
        }
        let grace = if ended.is_ok() { GRACE } else { Duration::ZERO };
        session.stop(grace).await;
        ended
    }

    async fn converse(
        &mut self,
        session: &Session,
        path: &Path,
        cx: &Context,
    ) -> Result<Ended, SessionError> {
        let request = LoadModelRequest {
            path: path.to_string_lossy().into_owned(),
            context_tokens: self.spec.context_tokens,
            threads: self.spec.threads,
            parallel: self.spec.parallel,
            queue: self.spec.queue,
            prefix_cache_bytes: self.spec.prefix_cache_bytes,
            memory_limit_bytes: self.spec.memory_limit_bytes,
            ..LoadModelRequest::default()
        };
        let info = match session.load_model(request).await {
            Ok(info) => info,
            Err(SessionError::Refused(problem)) => return Ok(Ended::Refused(problem)),
            Err(died) => return Err(died),
        };
        self.deadly_model_loads = 0;
        let wanted = self.handle.wanted().clone();
        let (loaded, refused) = session.load_adapters(wanted).await?;
        self.deadly_adapter_loads.clear();
        let mut status = self.status(ModelState::Ready, Some(info));
        status.loaded_adapters = loaded;
        status.refused_adapters = self.quarantined_adapters.clone();
        status.refused_adapters.extend(refused);
        tracing::info!(model = %status.name, adapters = status.loaded_adapters.len(), "model ready");
        self.handle.up(session.link(), status);
        cx.healthy();
        Err(session.ended(self.spec.probe_every).await)
    }

    /// Counts a death while loading; what keeps killing the process is left alone from now on.
    fn count_death(&mut self, during: &Phase) {
        match during {
            Phase::LoadingModel => self.deadly_model_loads += 1,
            Phase::LoadingAdapter(id) => {
                let deaths = self.deadly_adapter_loads.entry(id.clone()).or_insert(0);
                *deaths += 1;
                if *deaths >= DEADLY {
                    self.handle.wanted().remove(id);
                    let reason = format!("loading it ended the model process {DEADLY} times in a row");
                    tracing::error!(adapter = %id, reason, "adapter quarantined; swap to it to try again");
                    self.quarantined_adapters.insert(id.clone(), reason);
                }
            }
            Phase::Serving => {}
        }
    }
}

#[async_trait]
impl Subsystem for RuntimeProcess {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let stopping = cx.stopping();
        let Some(path) = self.spec.path.clone() else {
            self.down(cx, ModelState::None, "no model is configured", SET_PATH);
            stopping.cancelled().await;
            return Ok(());
        };
        let mut missing = 0;
        while !stopping.is_cancelled() {
            if self.deadly_model_loads >= DEADLY {
                let reason =
                    format!("loading {} ended the model process {DEADLY} times in a row", path.display());
                let next_step = "set model.path to another file, or check this one, and restart synesisd";
                tracing::error!(reason, "model quarantined");
                self.down(cx, ModelState::Failed, &reason, next_step);
                stopping.cancelled().await;
                return Ok(());
            }
            let Some(before) = FileMark::of(&path).await else {
                let reason = format!("the model file {} is not there or cannot be read", path.display());
                let next_step =
                    format!("put the file there, or {SET_PATH}; the file is looked for again by itself");
                self.down(cx, ModelState::Failed, &reason, &next_step);
                let wait = MISSING_FILE.delay(missing, &mut rand::rng());
                pause(wait, &stopping).await;
                missing = missing.saturating_add(1);
                continue;
            };
            missing = 0;
            let waiting = self.handle.status().borrow().reason.clone();
            let reason = if waiting.is_empty() { "the model is loading" } else { &waiting };
            self.down(cx, ModelState::Loading, reason, "try again in a moment");
            match self.serve(&path, cx).await {
                Ok(Ended::Stopping) => return Ok(()),
                Ok(Ended::Refused(problem)) => {
                    tracing::error!(reason = %problem.reason, "the model was refused: {}", problem.message);
                    while !stopping.is_cancelled() && FileMark::of(&path).await == Some(before) {
                        pause(RECHECK, &stopping).await;
                    }
                }
                Err(error) => {
                    if let SessionError::Died { during, .. } = &error {
                        self.count_death(during);
                    }
                    if matches!(&error, SessionError::Spawn(_) | SessionError::Connect(_)) {
                        let next_step = "install synesis-runtime, or set runtime.program to it";
                        self.down(cx, ModelState::Failed, &crate::log::chain(&error), next_step);
                    }
                    if self.deadly_model_loads < DEADLY {
                        return Err(error.into());
                    }
                }
            }
        }
        Ok(())
    }
}

async fn pause(time: Duration, stopping: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = stopping.cancelled() => {}
    }
}

/// Enough of a file's identity to see that it was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileMark {
    length: u64,
    modified: Option<SystemTime>,
}

impl FileMark {
    /// `None` when there is no such file, or it cannot be opened.
    async fn of(path: &Path) -> Option<Self> {
        let file = tokio::fs::File::open(path).await.ok()?;
        let found = file.metadata().await.ok().filter(std::fs::Metadata::is_file)?;
        Some(Self { length: found.len(), modified: found.modified().ok() })
    }
}
