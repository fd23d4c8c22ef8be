//! The `runtime` subsystem: keeps a model process running, restarts it after a crash, leaves a file alone that kills
//! it every time, and takes up another model when it is asked to.

use std::time::Duration;

use async_trait::async_trait;
use synesis_proto::runtime::v1::ModelInfo;
use synesis_supervise::{Backoff, BoxError, Context, Subsystem};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::quarantine::Quarantine;
use super::replace::{Aftermath, LoadCommand, LoadError, LoadFailure, Loaded};
use super::session::{Phase, Session, SessionError};
use super::spec::FileMark;
use super::{ModelHandle, ModelSpec, ModelState, ModelStatus, Target};

/// How long a process that is asked to leave may take.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// How often a file that was refused is looked at for a change.
const RECHECK: Duration = Duration::from_secs(5);
const MISSING_FILE: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(30) };
/// Requests to load a model that may wait for the one under way.
const LOADS: usize = 4;
const SET_PATH: &str =
    "set model.path to a GGUF file and restart synesisd, or run `synctl model pull` and `synctl model load`";

/// Keeps the model process running. See the module's first sentence.
#[derive(Debug)]
pub struct RuntimeProcess {
    pub(super) spec: ModelSpec,
    pub(super) handle: ModelHandle,
    pub(super) quarantine: Quarantine,
    /// What answers, or should; none: there is no model.
    pub(super) target: Option<Target>,
    /// Processes whose last answers are finishing after another model took their place.
    pub(super) retiring: JoinSet<()>,
    loads: mpsc::Receiver<LoadCommand>,
}

/// A process that answers, and what it runs.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) session: Session,
    pub(super) target: Target,
}

impl RuntimeProcess {
    /// The subsystem and the handle through which it is used.
    pub fn new(spec: ModelSpec) -> (Self, ModelHandle) {
        let target = spec.selected.clone().or_else(|| spec.configured());
        let quarantine = Quarantine::open(spec.quarantine.clone());
        let (sender, loads) = mpsc::channel(LOADS);
        let state = if target.is_some() { ModelState::Loading } else { ModelState::None };
        let status = status(state, target.as_ref(), None);
        let handle = ModelHandle::new(status, quarantine.clone(), sender);
        let retiring = JoinSet::new();
        let process = Self { spec, handle: handle.clone(), quarantine, target, retiring, loads };
        (process, handle)
    }

    /// Publishes that there is no model to answer, in the status and on the health board.
    pub(super) fn down(&self, cx: &Context, state: ModelState, reason: &str, next_step: &str) {
        // The board first, and a reader takes the model's status first: whoever sees the new state sees its reason.
        cx.degraded(reason, next_step);
        self.handle.down(status(state, self.target.as_ref(), None).because(reason, next_step));
        cx.ready();
    }

    /// Publishes that this process answers from now on.
    pub(super) fn up(&mut self, cx: &Context, session: Session, target: Target, status: ModelStatus) -> Live {
        tracing::info!(model = %status.name, adapters = status.loaded_adapters.len(), "model ready");
        self.target = Some(target.clone());
        self.handle.up(session.link(), status);
        cx.healthy();
        cx.ready();
        Live { session, target }
    }

    /// A process with the model in it, and the adapters that fit it. One that dies of an adapter is started again until
    /// that adapter is left alone.
    pub(super) async fn bring_up(&self, target: &Target) -> Result<(Session, ModelStatus), LoadFailure> {
        let mark = FileMark::of(&target.path).await;
        let model = target.identity(mark.ok_or_else(|| LoadFailure::Missing(target.path.clone()))?);
        let session = Session::start(&self.spec, &target.path, model).await?;
        self.prepare(session, target).await
    }

    /// The same with a process that was started already.
    pub(super) async fn prepare(
        &self,
        mut session: Session,
        target: &Target,
    ) -> Result<(Session, ModelStatus), LoadFailure> {
        loop {
            match self.load(&session, target).await {
                Ok(status) => return Ok((session, status)),
                Err(SessionError::Died { during: Phase::LoadingAdapter(adapter), how }) => {
                    tracing::warn!(%adapter, how, "the model process ended while it loaded an adapter");
                    let model = session.link().model().to_owned();
                    session.stop(Duration::ZERO).await;
                    session = Session::start(&self.spec, &target.path, model).await?;
                }
                Err(error) => {
                    session.stop(Duration::ZERO).await;
                    return Err(error.into());
                }
            }
        }
    }

    async fn load(&self, session: &Session, target: &Target) -> Result<ModelStatus, SessionError> {
        let link = session.link();
        let model = link.model();
        let info = match session.load_model(self.spec.load_request(target)).await {
            Ok(info) => info,
            Err(error) => {
                if matches!(error, SessionError::Died { .. }) {
                    self.died(model, "", &target.path.display().to_string()).await;
                }
                return Err(error);
            }
        };
        self.quarantine.survived(model, "");
        let mut status = status(ModelState::Ready, Some(target), Some(info));
        let wanted = self.handle.wanted().clone();
        for (id, path) in wanted {
            if let Some(reason) = self.quarantine.reason(model, &id) {
                status.refused_adapters.insert(id, reason);
                continue;
            }
            match session.load_adapter(&id, &path).await {
                Ok(()) => {
                    self.quarantine.survived(model, &id);
                    status.loaded_adapters.insert(id);
                }
                // It does not keep the model from answering.
                Err(SessionError::Refused(problem)) => {
                    status.refused_adapters.insert(id, problem.message);
                }
                Err(error) => {
                    self.died(model, &id, "it").await;
                    return Err(error);
                }
            }
        }
        Ok(status)
    }

    async fn died(&self, model: &str, adapter: &str, what: &str) {
        if let Some(reason) = self.quarantine.died(model, adapter, what).await {
            let (model, adapter) = (model.get(..12).unwrap_or(model), adapter);
            tracing::error!(model, adapter, reason, "left alone from now on, until it is asked for by name");
        }
    }

    /// Answers from one process after the other until the last one ends.
    async fn serve(&mut self, mut live: Live, cx: &Context) -> Result<(), BoxError> {
        let stopping = cx.stopping();
        loop {
            tokio::select! {
                error = live.session.ended(&self.handle) => {
                    // Callers learn it first.
                    let next_step = "it is being restarted; try again in a moment";
                    self.down(cx, ModelState::Loading, &error.to_string(), next_step);
                    live.session.stop(Duration::ZERO).await;
                    return Err(error.into());
                }
                () = stopping.cancelled() => {
                    self.down(cx, ModelState::Loading, "synesisd is stopping", "");
                    live.session.stop(GRACE).await;
                    return Ok(());
                }
                Some(command) = self.loads.recv() => live = self.replace(live, command, cx).await?,
            }
        }
    }

    /// Waits for `event`. Somebody who loads a model meanwhile is served from here on.
    async fn idle(&mut self, event: impl Future<Output = ()>, cx: &Context) -> Result<(), BoxError> {
        let stopping = cx.stopping();
        let command = tokio::select! {
            () = event => return Ok(()),
            () = stopping.cancelled() => return Ok(()),
            Some(command) = self.loads.recv() => command,
        };
        match self.take_up(command, cx, &stopping).await {
            Some(live) => self.serve(live, cx).await,
            None => Ok(()),
        }
    }

    /// Loads a model when none answers.
    async fn take_up(
        &mut self,
        LoadCommand { target, reply }: LoadCommand,
        cx: &Context,
        stopping: &CancellationToken,
    ) -> Option<Live> {
        let begun = Instant::now();
        let previous = self.target.as_ref().map(|target| target.name(None)).unwrap_or_default();
        if let Some(mark) = FileMark::of(&target.path).await {
            self.quarantine.lift_model(&target.identity(mark)).await;
        }
        let brought = tokio::select! {
            brought = self.bring_up(&target) => brought,
            () = stopping.cancelled() => return None,
        };
        match brought {
            Ok((session, status)) => {
                let name = status.name.clone();
                let live = self.up(cx, session, target, status);
                let took = begun.elapsed();
                // A caller that left does not undo what it asked for.
                let _ = reply.send(Ok(Loaded { name, previous, load: took, gap: took }));
                Some(live)
            }
            Err(why) => {
                let _ = reply.send(Err(LoadError::Failed { why, aftermath: Aftermath::NoModel }));
                None
            }
        }
    }

    /// Waits until another file is in the place of `target`'s.
    async fn until_replaced(
        &mut self,
        target: &Target,
        before: FileMark,
        cx: &Context,
    ) -> Result<(), BoxError> {
        let path = target.path.clone();
        let replaced = async move {
            while FileMark::of(&path).await == Some(before) {
                tokio::time::sleep(RECHECK).await;
            }
        };
        self.idle(replaced, cx).await
    }
}

#[async_trait]
impl Subsystem for RuntimeProcess {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let stopping = cx.stopping();
        let mut missing = 0;
        while !stopping.is_cancelled() {
            let Some(target) = self.target.clone() else {
                self.down(cx, ModelState::None, "no model is configured", SET_PATH);
                self.idle(std::future::pending(), cx).await?;
                continue;
            };
            let Some(mark) = FileMark::of(&target.path).await else {
                let file = target.path.display();
                let reason = format!("the model file {file} is not there or cannot be read");
                let next_step =
                    format!("put the file there, or {SET_PATH}; the file is looked for again by itself");
                self.down(cx, ModelState::Failed, &reason, &next_step);
                let wait = MISSING_FILE.delay(missing, &mut rand::rng());
                missing = missing.saturating_add(1);
                self.idle(tokio::time::sleep(wait), cx).await?;
                continue;
            };
            missing = 0;
            if let Some(reason) = self.quarantine.reason(&target.identity(mark), "") {
                let next_step = "check the file, set model.path to another one, or have it tried again: synctl model load";
                self.down(cx, ModelState::Failed, &reason, next_step);
                self.until_replaced(&target, mark, cx).await?;
                continue;
            }
            let waiting = self.handle.status().borrow().reason.clone();
            let reason = if waiting.is_empty() { "the model is loading" } else { &waiting };
            self.down(cx, ModelState::Loading, reason, "try again in a moment");
            let brought = tokio::select! {
                brought = self.bring_up(&target) => brought,
                () = stopping.cancelled() => break,
            };
            match brought {
                Ok((session, status)) => {
                    let live = self.up(cx, session, target, status);
                    self.serve(live, cx).await?;
                }
                Err(LoadFailure::Refused(problem)) => {
                    tracing::error!(reason = %problem.reason, "the model was refused: {}", problem.message);
                    let reason = format!("{}: {}", target.path.display(), problem.message);
                    self.down(cx, ModelState::Failed, &reason, &problem.next_step);
                    self.until_replaced(&target, mark, cx).await?;
                }
                // Looked for again at once, and then waited for.
                Err(LoadFailure::Missing(_)) => {}
                Err(error @ LoadFailure::NotStarted(_)) => {
                    let next_step = "install synesis-runtime, or set runtime.program to it";
                    self.down(cx, ModelState::Failed, &crate::log::chain(&error), next_step);
                    // A model that is asked for by name meanwhile waits for the next try.
                    return Err(error.into());
                }
                Err(error @ LoadFailure::Died(_)) => {
                    let next_step = "it is being restarted; try again in a moment";
                    self.down(cx, ModelState::Loading, &error.to_string(), next_step);
                    // Once it is left alone there is nothing to restart.
                    if self.quarantine.reason(&target.identity(mark), "").is_none() {
                        return Err(error.into());
                    }
                }
            }
        }
        self.retiring.shutdown().await;
        Ok(())
    }
}

/// A status of a model that nobody has asked anything yet.
pub(super) fn status(state: ModelState, target: Option<&Target>, info: Option<ModelInfo>) -> ModelStatus {
    let name = target.map(|target| target.name(info.as_ref())).unwrap_or_default();
    let mut status = ModelStatus::new(state, name, target.map(|target| target.path.clone()));
    status.info = info;
    status
}
