//! The wiring of the daemon: the only file that names every subsystem. Start order: journal, runtime, adapters,
//! tunnel, transfers, reconcile, sessions, decisions, vitals, openai, ipc; stopping is the reverse.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use synesis_privacy::Policy;
use synesis_supervise::sd::Notifier;
use synesis_supervise::{
    Backoff, GaveUp, HealthBoard, Running, Shutdown, Spec, StartError, StopReport, Supervisor,
};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::adapters::{AdapterKeeper, AdapterSpec, AdaptersHandle};
use crate::ask::Asker;
use crate::budget::Budget;
use crate::config::Config;
use crate::decisions::DecisionLog;
use crate::escalation::{Escalation, Reconciler, Resume};
use crate::folders::{FolderError, Folders};
use crate::ipc::socket::{Socket, SocketError};
use crate::ipc::{self, AdmissionControl, Ipc};
use crate::journal::JournalKeeper;
use crate::model::{ModelHandle, ModelSpec, RuntimeProcess};
use crate::models::{ModelsHandle, Store, StoreSpec};
use crate::node::{NodeView, Uplink};
use crate::openai::OpenAi;
use crate::sessions::{Sessions, Sweeper};
use crate::transfers::{TransferKeeper, Transfers};
use crate::tunnel::{self, Identity, TunnelParts};
use crate::vitals::{self, Vitals, VitalsSampling};

/// Why the daemon ended although nobody asked it to.
#[derive(Debug, Error)]
pub enum AppError {
    /// A folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The control socket cannot be claimed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The adapters' folder cannot be used.
    #[error("the adapters below paths.state_dir cannot be read")]
    Adapters(#[source] io::Error),
    /// The folder of transfers cannot be used.
    #[error("the transfers below paths.state_dir cannot be read")]
    Transfers(#[source] io::Error),
    /// The models' folder cannot be used.
    #[error("the models below paths.state_dir cannot be read")]
    Models(#[source] io::Error),
    /// Signals cannot be listened to.
    #[error("signals cannot be received")]
    Signals(#[source] io::Error),
    /// An essential subsystem did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An essential subsystem gave up.
    #[error(transparent)]
    GaveUp(#[from] GaveUp),
}

/// What the parts of the daemon offer each other and the local API.
#[derive(Debug, Clone)]
pub struct Handles {
    /// As read at the start.
    pub config: Arc<Config>,
    /// The state of the device.
    pub node: NodeView,
    /// The local model.
    pub model: ModelHandle,
    /// The model files.
    pub models: ModelsHandle,
    /// The adapters.
    pub adapters: AdaptersHandle,
    /// Adapters on their way.
    pub transfers: Transfers,
    /// The newest measurements.
    pub vitals: watch::Receiver<Option<Vitals>>,
    /// Answers prompts, wherever they run.
    pub asker: Asker,
    /// Who this device is.
    pub identity: Identity,
    /// Cancelled first of all when the daemon stops: long streams end.
    pub stopping: CancellationToken,
}

/// A started daemon.
pub struct Daemon {
    /// What it offers.
    pub handles: Handles,
    /// Where it answers.
    pub socket: PathBuf,
    running: Running,
    folders: Folders,
}

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// It cannot start, or an essential subsystem gave up.
pub async fn run(config: Config) -> Result<(), AppError> {
    let mut shutdown = Shutdown::listen().map_err(AppError::Signals)?;
    let started = Daemon::start_until(config, async {
        shutdown.requested().await;
    })
    .await;
    let mut daemon = match started {
        Err(AppError::Start(StartError::Interrupted { .. })) => return Ok(()),
        other => other?,
    };
    daemon.running.announce(Notifier::from_env());
    let ended = tokio::select! {
        signal = shutdown.requested() => {
            tracing::info!(%signal, "stopping");
            Ok(())
        }
        gave_up = daemon.running.failed() => Err(AppError::GaveUp(gave_up)),
    };
    daemon.stop().await;
    ended
}

impl Daemon {
    /// Starts everything; gives up in good order as soon as `stop` resolves.
    ///
    /// # Errors
    /// A folder or the socket cannot be used, or an essential subsystem does not start.
    pub async fn start_until(config: Config, stop: impl Future<Output = ()>) -> Result<Self, AppError> {
        let folders = Folders::prepare(&config.paths)?;
        let socket = Socket::claim(&folders.socket(), ipc::user_group())?;
        let (board, stopping) = (HealthBoard::new(), CancellationToken::new());

        let store =
            Store::open(StoreSpec::new(&config, folders.state.join("models"))).map_err(AppError::Models)?;
        let model_spec = ModelSpec {
            selected: store.selected(),
            readable: vec![folders.adapters()],
            quarantine: Some(folders.state.join("quarantine.json")),
            ..ModelSpec::from(&config)
        };
        let (runtime, model) = RuntimeProcess::new(model_spec.clone());
        let models = store.serve(model.clone(), model_spec, vitals::gpu_memory_bytes());
        let adapter_spec = AdapterSpec::new(folders.adapters(), &config.adapters);
        let (keeper, adapters) =
            AdapterKeeper::open(&adapter_spec, model.clone()).map_err(AppError::Adapters)?;
        let every = Duration::from_secs(config.vitals.interval_s.into());
        let (sampling, feeds) = VitalsSampling::new(every, folders.state.clone());
        let (journal, keeper_of_journal) = JournalKeeper::open(&folders.state).await;
        let way = tunnel::Way::from(&config.gateway);
        let TunnelParts { handle: tunnel, identity, view, device_id, keeper: keeper_of_tunnel } =
            tunnel::prepare(folders.identity(), way, feeds.for_tunnel, journal.clone());
        let uplink = Uplink { tunnel: view, device_id, pending_receipts: journal.pending() };
        let (keeper_of_transfers, transfers) =
            TransferKeeper::open(&folders.transfers(), adapters.clone(), tunnel.clone(), identity.clone())
                .map_err(AppError::Transfers)?;
        let budget = Budget::new(config.billing.daily_limit_usd);
        let resume = Resume::within(Duration::from_secs(config.escalation.resume_s.into()));
        let escalation = Escalation { tunnel, identity: identity.watch(), journal, budget, resume };
        let reconciler = Reconciler::new(escalation.clone());
        let config = Arc::new(config);
        let sessions = Sessions::default();
        let (decisions, keeper_of_decisions) = DecisionLog::new(&folders.state, config.routing.decisions);
        let asker = Asker {
            config: Arc::clone(&config),
            model: model.clone(),
            adapters: adapters.clone(),
            escalation,
            sessions: sessions.clone(),
            privacy: privacy_rules(),
            damage: identity.damage(),
            vitals: feeds.vitals.clone(),
            decisions,
        };

        let handles = Handles {
            config,
            node: NodeView::new(&board, &model, &adapters, uplink, stopping.clone()),
            model,
            models,
            adapters,
            transfers,
            vitals: feeds.vitals,
            asker,
            identity,
            stopping,
        };
        let path = socket.path().to_owned();
        let admission = AdmissionControl::new(handles.config.ipc.requests_per_minute);
        let openai = handles.config.openai.enabled.then(|| OpenAi::new(handles.clone(), admission.clone()));
        let ipc = Ipc::new(socket, handles.clone(), admission);

        let mut supervisor = Supervisor::new(board)
            .add(Spec::essential("journal"), keeper_of_journal)
            .add(runtime_spec(), runtime)
            .add(Spec::degradable("adapters"), keeper)
            .add(Spec::degradable("tunnel"), keeper_of_tunnel)
            .add(Spec::degradable("transfers"), keeper_of_transfers)
            .add(Spec::degradable("reconcile"), reconciler)
            .add(Spec::degradable("sessions"), Sweeper::new(sessions))
            .add(Spec::degradable("decisions"), keeper_of_decisions)
            .add(Spec::degradable("vitals"), sampling);
        if let Some(openai) = openai {
            supervisor = supervisor.add(Spec::degradable("openai").grace(Duration::from_secs(5)), openai);
        }
        let running = supervisor
            .add(Spec::essential("ipc").grace(Duration::from_secs(5)), ipc)
            .start_until(stop)
            .await?;
        Ok(Self { handles, socket: path, running, folders })
    }

    /// Stops everything, in the reverse order of the start.
    pub async fn stop(self) -> StopReport {
        // Watchers leave by themselves, so that the socket's graceful stop is not kept waiting by them.
        self.handles.stopping.cancel();
        let report = self.running.stop().await;
        if report.is_clean() {
            tracing::info!("stopped");
        } else {
            tracing::warn!(late = ?report.late, faults = ?report.faults, "stopped, but not everybody in good order");
        }
        // Last: the next daemon may have the state folder now.
        drop(self.folders);
        report
    }
}

/// The model process comes back quickly: a person may be waiting for an answer.
fn runtime_spec() -> Spec {
    Spec::degradable("runtime")
        .backoff(Backoff { base: Duration::from_millis(200), cap: Duration::from_secs(10) })
        .stable_after(Duration::from_secs(30))
}

/// Fails closed: without rules nothing leaves, and local answers go on.
fn privacy_rules() -> Option<Arc<Policy>> {
    match Policy::standard() {
        Ok(policy) => Some(Arc::new(policy)),
        Err(error) => {
            tracing::error!(
                error = crate::log::chain(&error),
                "the privacy rules are not usable; nothing will be escalated"
            );
            None
        }
    }
}
