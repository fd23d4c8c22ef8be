//! The model process as a subsystem: started, given its model, watched. One that ends, or lives and no longer
//! answers, is replaced.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use synesis_proto::runtime::v1;
use synesis_proto::runtime::v1::runtime_client::RuntimeClient;
use synesis_proto::{Problem, channel};
use synesis_supervise::child::{ChildProcess, ChildSpec};
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tonic::transport::Channel;

use super::{Adapters, Ready, RuntimeSettings, State, TemplateTools};

/// How long the model process may take to leave when it is asked to.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// A big model on a slow disk; longer than this is a hang.
const LOAD_LIMIT: Duration = Duration::from_secs(600);
/// How often a process with its model loaded is asked how it is, and how long it may take to say so.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// Probes in a row without an answer until the process counts as hung.
const MISSED_PROBES: u32 = 3;
/// With work and without a finished step for this long, the engine counts as hung, however well the rest answers. The
/// longest step is a batch of a long prompt on a slow machine, which takes seconds.
const STALLED: Duration = Duration::from_secs(120);

/// The process: started, given its model, watched until it ends.
pub(crate) struct RuntimeProcess {
    pub(super) settings: RuntimeSettings,
    pub(super) state: watch::Sender<State>,
}

/// Why the model process is not doing its work.
#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error("the model process ended: {0}")]
    Ended(String),
    #[error("the model cannot be loaded: {0}")]
    Load(String),
    #[error("the model process gives no connection")]
    NoStream,
    #[error("the model process stopped answering and is being replaced")]
    Hung,
}

impl RuntimeProcess {
    async fn live(&self, child: &mut ChildProcess, cx: &Context) -> Result<(), BoxError> {
        let stream = child.take_stream().ok_or(ProcessError::NoStream)?;
        let mut client = RuntimeClient::new(channel::over(stream).await?);
        let stopping = cx.stopping();
        let load = v1::LoadModelRequest {
            path: self.settings.model_path.to_string_lossy().into_owned(),
            context_tokens: self.settings.context_tokens,
            threads: self.settings.threads,
            chat_template: self.settings.chat_template.clone(),
            parallel: self.settings.parallel,
            ..v1::LoadModelRequest::default()
        };
        let info = tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            status = child.wait() => return Err(ProcessError::Ended(status.to_string()).into()),
            loaded = self::load(&mut client, load) => loaded?,
        };
        tracing::info!(
            models = ?self.settings.models,
            architecture = %info.architecture,
            context_tokens = info.context_tokens,
            parallel = info.parallel,
            pid = child.pid(),
            "model loaded"
        );
        let tools = if info.template_takes_tools { TemplateTools::Shown } else { TemplateTools::Unknown };
        let (architecture, adapters) = (info.architecture, Arc::<Adapters>::default());
        self.state.send_replace(State::Ready(Ready {
            client: client.clone(),
            tools,
            architecture,
            adapters,
        }));
        cx.ready();
        tokio::select! {
            () = stopping.cancelled() => Ok(()),
            status = child.wait() => Err(ProcessError::Ended(status.to_string()).into()),
            () = hung(client, PROBE_EVERY) => Err(ProcessError::Hung.into()),
        }
    }
}

/// The process may read its model and the adapters, and nothing else.
fn spec(settings: &RuntimeSettings) -> ChildSpec {
    // Spinning OpenMP threads starve each other on a shared machine; backtraces of the engine help nobody.
    ChildSpec::new(&settings.program)
        .arg("--read")
        .arg(&settings.model_path)
        .arg("--read")
        .arg(&settings.adapters)
        .arg("--sandbox")
        .arg(settings.sandbox.as_str())
        .env("GOMP_SPINCOUNT", "10000")
        .env("GGML_NO_BACKTRACE", "1")
}

async fn load(
    client: &mut RuntimeClient<Channel>,
    request: v1::LoadModelRequest,
) -> Result<v1::ModelInfo, ProcessError> {
    match timeout(LOAD_LIMIT, client.load_model(request)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(ProcessError::Load(Problem::from_status(&status).to_string())),
        Err(_) => Err(ProcessError::Load(format!("no answer in {LOAD_LIMIT:?}"))),
    }
}

/// Resolves when the process has left several probes in a row without an answer, or its engine makes no progress.
async fn hung(mut client: RuntimeClient<Channel>, probe_every: Duration) {
    let mut times = interval(probe_every);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missed = 0;
    while missed < MISSED_PROBES {
        times.tick().await;
        missed = match timeout(probe_every, client.health(v1::HealthRequest {})).await {
            Ok(Ok(health)) if Duration::from_millis(health.get_ref().stalled_ms) > STALLED => return,
            Ok(Ok(_)) => 0,
            Ok(Err(_)) | Err(_) => missed + 1,
        };
    }
}

#[async_trait]
impl Subsystem for RuntimeProcess {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let mut child = ChildProcess::spawn(&spec(&self.settings))?;
        let outcome = self.live(&mut child, cx).await;
        let why = match &outcome {
            Ok(()) => "the gateway is stopping".to_owned(),
            Err(error) => error.to_string(),
        };
        self.state.send_replace(State::Away(why));
        child.stop(STOP_GRACE).await;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::scripted_runtime::ScriptedRuntime;

    async fn client(process: &ScriptedRuntime) -> RuntimeClient<Channel> {
        RuntimeClient::new(channel::over(process.connect()).await.unwrap())
    }

    #[tokio::test]
    async fn a_process_that_answers_its_probes_is_left_alone() {
        let process = ScriptedRuntime::start();
        let client = client(&process).await;
        tokio::select! {
            () = hung(client, Duration::from_millis(200)) => panic!("a healthy process was given up"),
            () = process.probed(MISSED_PROBES as usize + 1) => {}
        }
    }

    #[tokio::test]
    async fn a_process_that_lives_and_no_longer_answers_is_given_up_after_three_probes() {
        let process = ScriptedRuntime::stuck();
        hung(client(&process).await, Duration::from_millis(20)).await;
        process.probed(MISSED_PROBES as usize).await;
    }

    #[tokio::test]
    async fn a_process_that_answers_while_its_engine_is_stuck_is_given_up() {
        let process = ScriptedRuntime::stalled(Duration::from_secs(121));
        hung(client(&process).await, Duration::from_millis(200)).await;
        process.probed(1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_model_that_does_not_load_in_time_is_given_up_with_the_reason() {
        let process = ScriptedRuntime::stuck();
        let error = load(&mut client(&process).await, v1::LoadModelRequest::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "the model cannot be loaded: no answer in 600s");
    }
}
