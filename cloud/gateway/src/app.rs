//! The gateway put together: the only file that names every part. [`bind`] takes what it needs from the machine and
//! fails early; [`Bound::run`] serves until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use synesis_ledger::Rates;
use synesis_mesh::gateway::{GatewayEndpoint, GatewayTls};
use synesis_supervise::sd::Notifier;
use synesis_supervise::{BoxError, Context, HealthBoard, Spec, Subsystem, Supervisor};
use tokio::time::{Instant, sleep};

use crate::adapters::{AdapterStore, Sweeper};
use crate::admin::{Admin, AdminSocket};
use crate::answers::{Answers, AnswersKeeper};
use crate::closing::Closing;
use crate::config::Config;
use crate::control_plane::{Clock, ControlPlane, SqliteControlPlane, SqliteSettings};
use crate::enrol::Refusals;
use crate::failure::{Exit, Failure, chain};
use crate::handshakes::Handshakes;
use crate::http::{self, Http, View};
use crate::limits::{Devices, REMEMBERED};
use crate::live::Live;
use crate::metrics::Metrics;
use crate::pki;
use crate::providers::runtime::RuntimeProcess;
use crate::providers::{Catalogue, catalogue};
use crate::rotation::{self, Rotation};
use crate::session::Services;
use crate::tunnel::Tunnel;

/// Who is told to stop at once has this long to close what is open.
const HURRY: Duration = Duration::from_secs(3);

/// A gateway that holds its sockets and its store, and does not serve yet.
pub(crate) struct Bound {
    store: SqliteControlPlane,
    answers: AnswersKeeper,
    processes: Vec<RuntimeProcess>,
    adapters: Arc<AdapterStore>,
    keys: rotation::Keeper,
    admin: Admin,
    tunnel: Tunnel,
    http: Option<Http>,
    board: HealthBoard,
    address: SocketAddr,
    tunnel_tcp: Option<SocketAddr>,
}

/// Reads keys, opens the store, binds the sockets.
pub(crate) async fn bind(config: &Config) -> Result<Bound, Failure> {
    crate::tls::install_crypto();
    let (catalogue, processes) = catalogue::build(config)
        .map_err(|error| Failure::new(Exit::Config, error.to_string(), error.next_step()))?;
    bind_with(config, catalogue, processes).await
}

/// Like [`bind`], with providers made by somebody else.
pub(crate) async fn bind_with(
    config: &Config,
    catalogue: Catalogue,
    processes: Vec<RuntimeProcess>,
) -> Result<Bound, Failure> {
    bind_at(config, catalogue, processes, Clock::system()).await
}

/// Like [`bind_with`], at another time.
pub(crate) async fn bind_at(
    config: &Config,
    catalogue: Catalogue,
    processes: Vec<RuntimeProcess>,
    clock: Clock,
) -> Result<Bound, Failure> {
    if catalogue.models().is_empty() {
        tracing::warn!("no provider is configured; every ask will be refused");
    }
    let keys = pki::load(&config.pki_dir, &config.trust_domain)
        .map_err(|error| Failure::new(Exit::Config, chain(&error), error.next_step()))?;
    let socket = AdminSocket::bind(&config.admin_socket)
        .map_err(|error| Failure::new(Exit::Failed, chain(&error), error.next_step()))?;
    let gateway_id = keys.gateway_id();
    let dates = rotation::dates(&clock, config.identity_grace);
    let rotation = Arc::new(Rotation::new(config.pki_dir.clone(), keys.authorities, dates));
    if let Err(error) = rotation.renew_gateway() {
        tracing::warn!(
            error = chain(&error),
            "the gateway's certificate was not renewed; the present one goes on"
        );
    }
    let tls = GatewayTls { reset_seed: Some(keys.reset_key), ..rotation.tls() };
    let endpoint = GatewayEndpoint::bind_numbered(&tls, config.listen, config.gateway_number);
    let mut endpoint = endpoint.map_err(|error| {
        failed(&error, "set `listen` to a free UDP address, and check the files in pki.dir")
    })?;
    if let Some(address) = config.listen_tcp {
        endpoint = endpoint.and_tcp(&tls, address).map_err(|error| {
            failed(&error, "set `listen_tcp` to a free TCP address that this user may bind, or remove it")
        })?;
    }
    rotation.serve_on(endpoint.clone());
    let address = endpoint.local_addr().map_err(|error| failed(&error, "start the gateway again"))?;
    let tunnel_tcp = endpoint.tcp_addr();
    let listener = config.http_listen.map(http::bind).transpose().map_err(|error| {
        failed(&error, "set `http_listen` to a free address of this machine, or remove it")
    })?;
    let settings = SqliteSettings {
        device_ca: rotation.issuing(),
        receipt_key: keys.receipt_key,
        rates: Rates::default(),
        prices: config.prices.clone(),
        clock,
    };
    let (store, clock) = open_store(config, settings).await?;
    let (answers, keeper) = Answers::new(config.resume.clone(), clock.clone());
    let metrics = Metrics::default();
    let store = store.counted(Arc::clone(&metrics.store));
    let plane: Arc<dyn ControlPlane> = Arc::new(store.clone());
    let adapters = Arc::new(AdapterStore::new(config.adapters_dir(), config.adapters, Arc::clone(&plane)));
    let services = Arc::new(Services {
        plane,
        catalogue,
        answers,
        adapters: Arc::clone(&adapters),
        live: Live::default(),
        refusals: Refusals::default(),
        devices: Devices::new(config.limits.device, REMEMBERED),
        unread: config.limits.unread,
        metrics: metrics.clone(),
        closing: Closing::default(),
        drain: config.drain,
        reconnect_window: config.reconnect_window,
        authorities: rotation.watch(),
        gateway_id,
        clock,
    });
    let keys = rotation::Keeper(Arc::clone(&rotation));
    let admin = Admin { socket, services: Arc::clone(&services), rotation };
    let board = HealthBoard::new();
    let view = View {
        board: board.clone(),
        closing: services.closing.clone(),
        live: services.live.clone(),
        endpoint: endpoint.clone(),
        metrics: metrics.clone(),
    };
    let http = listener.map(|listener| Http { listener, view });
    let tunnel = Tunnel { endpoint, handshakes: Handshakes::new(&config.limits, metrics), services };
    Ok(Bound {
        store,
        answers: keeper,
        processes,
        adapters,
        keys,
        admin,
        tunnel,
        http,
        board,
        address,
        tunnel_tcp,
    })
}

async fn open_store(
    config: &Config,
    settings: SqliteSettings,
) -> Result<(SqliteControlPlane, Clock), Failure> {
    let next_step = "check store.dir, its permissions and the disk";
    let folder = &config.store_dir;
    // The model processes may read the adapters, so their folder has to be there before they start.
    let adapters = config.adapters_dir();
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .recursive(true)
        .create(&adapters)
        .map_err(|error| {
            Failure::new(Exit::Failed, format!("{} cannot be made: {error}", adapters.display()), next_step)
        })?;
    let clock = settings.clock.clone();
    let (store, recovery) =
        SqliteControlPlane::open(folder, settings).await.map_err(|error| failed(&error, next_step))?;
    if let Some(warning) = recovery.warning() {
        tracing::error!(warning, "the ledger is not as it was left; compare it with a backup");
    }
    // A former process died in the middle of these: what it delivered is not charged.
    let orphans = store.release_orphans().await.map_err(|error| failed(&error, next_step))?;
    for request in &orphans {
        tracing::warn!(%request, "hold of an unfinished request released");
    }
    Ok((store, clock))
}

fn failed(error: &(dyn std::error::Error + 'static), next_step: &str) -> Failure {
    Failure::new(Exit::Failed, chain(error), next_step)
}

impl Bound {
    /// What is counted.
    #[cfg(test)]
    pub(crate) fn metrics(&self) -> Metrics {
        self.tunnel.services.metrics.clone()
    }

    /// Where `/ready` and `/metrics` are.
    #[cfg(test)]
    pub(crate) fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|http| http.listener.local_addr().ok())
    }

    /// The answers there will be.
    #[cfg(test)]
    pub(crate) fn answers(&self) -> Answers {
        self.tunnel.services.answers.clone()
    }

    /// Where devices connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` resolves, then stops in the reverse of the start order: `/ready` says so, the tunnel takes nobody
    /// in any more and lets answers finish; then administration, answers that nobody reads, the model processes, the pages, and
    /// the store at the very end. Once `now` resolves, nothing is waited for.
    pub(crate) async fn run(
        self,
        stop: impl Future<Output = ()>,
        now: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let mut stop = std::pin::pin!(stop);
        let services = Arc::clone(&self.tunnel.services);
        let mut supervisor = Supervisor::new(self.board).add(
            Spec::essential("store").max_tries(1).grace(Duration::from_secs(5)),
            StoreKeeper(self.store),
        );
        if let Some(http) = self.http {
            supervisor = supervisor.add(Spec::degradable("http"), http);
        }
        for process in self.processes {
            let spec = Spec::degradable("runtime").start_timeout(Duration::from_secs(20));
            supervisor = supervisor.add(spec, process);
        }
        let running = supervisor
            .add(
                Spec::essential("answers").grace(services.drain.deadline + Duration::from_secs(10)),
                self.answers,
            )
            .add(Spec::degradable("adapters"), Sweeper(self.adapters))
            .add(Spec::degradable("keys"), self.keys)
            .add(Spec::essential("admin"), self.admin)
            .add(
                Spec::essential("tunnel").grace(services.drain.deadline + Duration::from_secs(10)),
                self.tunnel,
            )
            .start_until(stop.as_mut())
            .await;
        let mut running = running.map_err(|error| failed(&error, "see the log above"))?;
        running.announce(Notifier::from_env());
        let tcp = self.tunnel_tcp.map(tracing::field::display);
        tracing::info!(listen = %self.address, listen_tcp = tcp, "ready");
        let outcome = tokio::select! {
            () = stop => Ok(()),
            gave_up = running.failed() => Err(failed(&gave_up, "see the log above")),
        };
        services.closing.drain();
        let stopped = running.stop();
        let hurried = async {
            now.await;
            tracing::warn!("told to stop again: nothing is waited for any more");
            services.closing.hurry();
            services.answers.stop_by(Instant::now());
            sleep(HURRY).await;
        };
        let report = tokio::select! {
            report = stopped => report,
            () = hurried => {
                tracing::warn!("stopped, and not in good order: what was held is given back at the next start");
                return outcome;
            }
        };
        if report.is_clean() {
            tracing::info!("stopped");
        } else {
            tracing::warn!(late = ?report.late, faults = ?report.faults, "stopped, but not in good order");
        }
        outcome
    }
}

/// Keeps the store for the others: first to start, last to stop.
struct StoreKeeper(SqliteControlPlane);

#[async_trait]
impl Subsystem for StoreKeeper {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let mut failure = self.0.failure();
        cx.ready();
        let cause = tokio::select! {
            () = cx.stopping().cancelled_owned() => None,
            Ok(cause) = failure.wait_for(Option::is_some) => cause.clone(),
        };
        // Only opening it again can help, and that takes a new process.
        self.0.close().await;
        cause.map_or(Ok(()), |cause| Err(cause.into()))
    }
}
