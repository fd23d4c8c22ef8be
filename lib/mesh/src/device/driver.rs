//! The driver: feeds the state machine with what happens, does what it says, and publishes the status.

use std::mem::discriminant;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use synesis_proto::mesh::v1;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::dial::{Network, Udp};
use super::handle::{Shared, TunnelHandle};
use super::link::{self, Doubt, LinkHandle, LinkUp, News, Order};
use super::state::{Effect, Event, State, step};
use super::{Failure, TunnelConfig, TunnelEvent, TunnelState, TunnelStatus, network_change, seek};
use crate::carrier::Carrier;
use crate::identity::DeviceIdentity;

const EVENTS: usize = 64;
const NEWS: usize = 16;
/// Dials in a row that ended on TCP: after so many, UDP gets no head start.
const UDP_IS_DEAD: u32 = 2;
/// A gateway cannot ask devices to stay away longer than this after it was lost.
const MAX_WINDOW: Duration = Duration::from_secs(300);
/// A renewed device moves to a connection with its new certificate within this time.
const RENEWED_WITHIN: Duration = Duration::from_secs(5);
/// A stopping device waits this long for its close to leave the machine.
const FAREWELL: Duration = Duration::from_millis(500);

/// The device's tunnel, in two parts: handles to use it, and the driver that somebody has to run.
#[derive(Debug)]
pub struct Tunnel;

impl Tunnel {
    /// A tunnel that does nothing until its driver runs.
    #[expect(clippy::new_ret_no_self, reason = "a tunnel is its two parts")]
    pub fn new(config: TunnelConfig, identity: Option<Arc<DeviceIdentity>>) -> (TunnelHandle, TunnelDriver) {
        Self::over(config, identity, Arc::new(Udp))
    }

    pub(super) fn over(
        config: TunnelConfig,
        identity: Option<Arc<DeviceIdentity>>,
        network: Arc<dyn Network>,
    ) -> (TunnelHandle, TunnelDriver) {
        let state = if identity.is_some() { State::Offline } else { State::Unenrolled };
        let shared = Arc::new(Shared {
            status: watch::Sender::new(explain(state, None)),
            link: watch::Sender::new(None),
            identity: watch::Sender::new(identity),
            renewed: watch::Sender::new(None),
            redial: Notify::new(),
            events: broadcast::Sender::new(EVENTS),
            timing: config.timing,
        });
        (
            TunnelHandle { shared: shared.clone() },
            TunnelDriver { config, shared, network, rng: StdRng::from_rng(&mut rand::rng()) },
        )
    }
}

/// Keeps the tunnel up while it runs.
#[derive(Debug)]
pub struct TunnelDriver {
    config: TunnelConfig,
    shared: Arc<Shared>,
    network: Arc<dyn Network>,
    /// For waits; tests seed it.
    pub(super) rng: StdRng,
}

impl TunnelDriver {
    /// Runs until `stop`; never gives up before. May be run again afterwards. When the future is dropped, the
    /// connection goes with it.
    pub async fn run(&mut self, stop: CancellationToken) {
        let mut identity = self.shared.identity.subscribe();
        let has_identity = identity.borrow_and_update().is_some();
        let mut run = Run::new(self, if has_identity { State::Offline } else { State::Unenrolled });
        // Ends with the run: its task is one of the run's.
        let (changed_in, mut changed) = mpsc::channel(1);
        let (network, gateway) = (run.network.clone(), run.remote.subscribe());
        run.tasks.spawn(network_change::watch(network, gateway, changed_in));
        run.apply(Event::Start);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Ok(()) = identity.changed() => {
                    let device = identity.borrow_and_update().as_ref().map(|identity| identity.device_id);
                    run.take_up(device);
                }
                () = run.shared.redial.notified() => run.apply(Event::Reconnect),
                Some(()) = changed.recv() => run.apply(Event::NetworkChanged),
                news = next_news(&mut run.current) => run.hear(news),
                news = next_news(&mut run.seeker) => run.hear_seeker(news),
                () = due(run.timer) => {
                    run.timer = None;
                    run.apply(Event::Due);
                }
                Some(ended) = run.tasks.join_next() => note_panic(ended),
            }
        }
        let leaving = run.link.as_ref().map(|link| link.connection.clone());
        run.apply(Event::Stop);
        if let Some(connection) = leaving {
            // The gateway notices a lost close by itself, only later.
            let _ = timeout(FAREWELL, connection.wait_idle()).await;
        }
    }
}

/// The dial or connection the machine is about.
struct Current {
    task: AbortHandle,
    news: mpsc::Receiver<News>,
}

/// What only a running driver has.
struct Run {
    config: TunnelConfig,
    shared: Arc<Shared>,
    network: Arc<dyn Network>,
    state: State,
    timer: Option<Instant>,
    rng: StdRng,
    tasks: JoinSet<()>,
    current: Option<Current>,
    link: Option<LinkHandle>,
    /// Looks for QUIC while the link runs over TCP ...
    seeker: Option<Current>,
    /// ... and has found it.
    better: Option<Box<LinkUp>>,
    /// Dials in a row that ended on TCP.
    udp_silent: u32,
    /// Where the last connection went; before the first, where it will go if that is an address.
    remote: watch::Sender<Option<SocketAddr>>,
    /// How far the gateway wants devices spread that lose it together.
    window: Option<Duration>,
    /// Who the current dial or connection is made as.
    dialled_as: Option<Uuid>,
    announce: Option<TunnelEvent>,
    // What the status shows beside the state.
    failure: Option<Failure>,
    gateway: Option<String>,
    welcome: Option<Arc<v1::Welcome>>,
    since: Option<SystemTime>,
    rtt: Option<Duration>,
    rebinds: u32,
    doubt: Option<Doubt>,
    clock_offset_ms: Option<i64>,
    renewal: Option<String>,
}

impl Run {
    fn new(driver: &mut TunnelDriver, state: State) -> Self {
        let gateway = driver.config.endpoints.first().cloned();
        Self {
            config: driver.config.clone(),
            shared: driver.shared.clone(),
            network: driver.network.clone(),
            state,
            timer: None,
            rng: StdRng::from_rng(&mut driver.rng),
            tasks: JoinSet::new(),
            current: None,
            link: None,
            seeker: None,
            better: None,
            udp_silent: 0,
            remote: watch::Sender::new(None),
            window: None,
            dialled_as: None,
            announce: None,
            failure: None,
            gateway,
            welcome: None,
            since: None,
            rtt: None,
            rebinds: 0,
            doubt: None,
            clock_offset_ms: None,
            renewal: None,
        }
    }

    /// One step: decide, act, publish, and only then tell the news, so that who hears it sees the new status.
    fn apply(&mut self, event: Event) {
        let (next, effects) = step(self.state, event);
        if discriminant(&next) != discriminant(&self.state) {
            // A timer belongs to the state that set it.
            self.timer = None;
            tracing::debug!(from = ?self.state, to = ?next, ?event, "tunnel");
        }
        self.state = next;
        for effect in effects {
            self.perform(effect);
        }
        self.publish();
        if let Some(event) = self.announce.take() {
            // Nobody has to listen.
            let _ = self.shared.events.send(event);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Dial => self.dial(),
            Effect::Rebind => {
                // A link that has so many orders waiting is stuck, and its heartbeats say so.
                let _ = self.link.as_ref().map(|link| link.orders.try_send(Order::Rebind));
            }
            Effect::Hangup => self.hang_up(),
            Effect::Release => {
                self.current = None;
                if let Some(link) = self.forget_link() {
                    release(&link);
                }
            }
            Effect::SeekQuic => self.seek(),
            Effect::Switch => self.switch(),
            Effect::Discard => self.better = None,
            Effect::AnnounceUp => {
                self.since = Some(SystemTime::now());
                self.failure = None;
                self.shared.link.send_replace(self.link.clone());
                self.announce = Some(TunnelEvent::Up);
                tracing::info!(gateway = self.gateway, "tunnel up");
            }
            Effect::AnnounceDown => self.announce = Some(TunnelEvent::Down),
            Effect::AwaitStable => self.timer = Some(Instant::now() + self.config.timing.stable_after),
            Effect::AwaitRetry { attempt } => {
                let wait = self.config.timing.backoff.draw(attempt, &mut self.rng);
                self.retry_after(wait);
            }
            Effect::AwaitTurn { attempt } => {
                let backoff = self.config.timing.backoff;
                let wait = match self.window {
                    Some(window) => backoff.draw_turn(window, attempt, &mut self.rng),
                    None => backoff.draw(attempt, &mut self.rng),
                };
                self.retry_after(wait);
            }
            Effect::AwaitMove { within } => {
                self.timer = Some(Instant::now() + within.mul_f64(self.rng.random::<f64>()));
            }
        }
    }

    /// What the gateway asked for comes on top: those it sent away together do not come back together.
    fn retry_after(&mut self, drawn: Duration) {
        let wait = drawn + self.failure.as_ref().and_then(|failure| failure.retry_after).unwrap_or_default();
        self.timer = Some(Instant::now() + wait);
        let reason = self.failure.as_ref().map(|failure| failure.reason.as_str());
        tracing::info!(reason, ?wait, "tunnel down, dialling again after a wait");
    }

    /// There is another identity, or none.
    fn take_up(&mut self, device: Option<Uuid>) {
        let same = device.is_some() && self.dialled_as == device;
        if same && self.link.is_some() {
            // Renewed: the connection was made with the former certificate, which counts until its own end.
            return self.apply(Event::Drain { within: RENEWED_WITHIN });
        }
        // What another identity met says nothing about this one.
        self.failure = None;
        self.apply(if device.is_some() { Event::IdentitySet } else { Event::IdentityCleared });
    }

    fn dial(&mut self) {
        let Some(identity) = self.shared.identity.borrow().clone() else { return };
        self.dialled_as = Some(identity.device_id);
        if self.config.endpoints.is_empty() {
            self.gateway = Some(identity.gateway.clone());
        }
        let literal = || self.gateway.as_ref()?.parse().ok();
        self.remote.send_if_modified(|remote| {
            let known = remote.is_some();
            *remote = remote.or_else(literal);
            remote.is_some() != known
        });
        let (news_in, news) = mpsc::channel(NEWS);
        let dead = self.udp_silent >= UDP_IS_DEAD;
        let head_start = if dead { Duration::ZERO } else { self.config.timing.tcp_after };
        let link = link::run(self.config.clone(), identity, self.network.clone(), head_start, news_in);
        self.current = Some(Current { task: self.tasks.spawn(link), news });
    }

    fn seek(&mut self) {
        let Some(identity) = self.shared.identity.borrow().clone() else { return };
        let (news_in, news) = mpsc::channel(NEWS);
        let seek = seek::run(self.config.clone(), identity, self.network.clone(), news_in);
        self.seeker = Some(Current { task: self.tasks.spawn(seek), news });
    }

    /// New work goes to the connection that was found; what runs on the old one finishes there.
    fn switch(&mut self) {
        let (Some(found), Some(seeker)) = (self.better.take(), self.seeker.take()) else { return };
        self.current = Some(seeker);
        let old = self.link.take();
        self.rtt = None;
        self.adopt(*found);
        self.shared.link.send_replace(self.link.clone());
        if let Some(link) = old {
            release(&link);
        }
        tracing::info!(gateway = self.gateway, "tunnel moved from TCP to QUIC");
    }

    fn adopt(&mut self, up: LinkUp) {
        self.udp_silent = match up.handle.connection.carrier() {
            Carrier::Quic => 0,
            Carrier::Tcp => self.udp_silent.saturating_add(1),
        };
        self.remote.send_replace(Some(up.handle.connection.remote()));
        let window = Duration::from_millis(up.welcome.reconnect_window_ms).min(MAX_WINDOW);
        self.window = Some(window).filter(|window| !window.is_zero());
        (self.rebinds, self.doubt) = (0, None);
        self.link = Some(up.handle);
        self.welcome = Some(up.welcome);
        self.gateway = Some(up.gateway);
        (self.clock_offset_ms, self.renewal) = (up.clock_offset_ms, None);
    }

    fn hang_up(&mut self) {
        if let Some(current) = self.current.take() {
            current.task.abort();
        }
        if let Some(link) = self.forget_link() {
            link.connection.leave("the device hangs up");
        }
    }

    /// From here on nobody opens work on the link.
    fn forget_link(&mut self) -> Option<LinkHandle> {
        self.shared.link.send_replace(None);
        (self.welcome, self.since, self.rtt) = (None, None, None);
        (self.rebinds, self.doubt) = (0, None);
        self.better = None;
        if let Some(seeker) = self.seeker.take() {
            seeker.task.abort();
        }
        (self.clock_offset_ms, self.renewal) = (None, None);
        self.link.take()
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Up(up) => {
                let carrier = up.handle.connection.carrier();
                self.adopt(*up);
                self.apply(Event::Connected(carrier));
            }
            News::Rtt(rtt) => {
                self.rtt = Some(rtt);
                self.doubt = None;
                self.publish();
            }
            News::Rebound(doubt) => {
                self.rebinds += 1;
                self.doubt = Some(doubt);
                self.publish();
            }
            News::Renewed(identity) => {
                self.renewal = None;
                self.shared.renewed.send_replace(Some(identity));
                self.publish();
            }
            News::NotRenewed(why) => {
                self.renewal = Some(why);
                self.publish();
            }
            News::Prewarm(adapter) => {
                // Nobody has to listen.
                let _ = self.shared.events.send(TunnelEvent::Prewarm { adapter });
            }
            News::Drain(within) => self.apply(Event::Drain { within }),
            News::Ended(failure) => {
                let verdict = failure.verdict;
                if !verdict.may_pass() {
                    tracing::warn!(reason = failure.reason, next_step = failure.next_step, "tunnel refused");
                }
                self.failure = Some(failure);
                self.apply(Event::Failed(verdict));
            }
        }
    }

    /// Until the tunnel uses what the seeker found, nothing else of its is news.
    fn hear_seeker(&mut self, news: News) {
        match news {
            News::Up(up) => {
                self.better = Some(up);
                self.apply(Event::Upgraded);
            }
            News::Ended(_) => self.seeker = None,
            // It is for whoever keeps the identity, whichever link it comes from.
            renewed @ News::Renewed(_) => self.hear(renewed),
            _ => {}
        }
    }

    fn publish(&self) {
        let mut status = explain(self.state, self.failure.as_ref());
        status.gateway = self.gateway.clone();
        if status.state.carries_work() {
            status.rtt = self.rtt;
            status.connected_since = self.since;
            status.welcome = self.welcome.clone();
            status.transport = self.link.as_ref().map(|link| link.connection.carrier());
            status.rebinds = self.rebinds;
            status.clock_offset_ms = self.clock_offset_ms;
            status.renewal = self.renewal.clone();
        }
        if status.state == TunnelState::Up
            && let Some(doubt) = self.doubt
        {
            status.reason = Some(in_doubt(doubt, self.rebinds));
        } else if status.state == TunnelState::Up
            && status.transport == Some(Carrier::Tcp)
            && status.reason.is_none()
        {
            let gateway = self.gateway.as_deref().unwrap_or("the gateway");
            status.reason =
                Some(format!("UDP to {gateway} got no answer; connected over TCP, trying UDP again"));
            status.next_step = Some(format!("open UDP to {gateway} in the firewall"));
        }
        if status.state == TunnelState::Backoff {
            status.retry_at = self.timer;
        }
        self.shared.status.send_if_modified(|current| {
            let changed = *current != status;
            *current = status;
            changed
        });
    }
}

impl Drop for Run {
    /// A driver that is dropped in the middle leaves no connection, and no status that claims one.
    fn drop(&mut self) {
        self.apply(Event::Stop);
    }
}

/// A status with the state, and why it is not up.
fn explain(state: State, failure: Option<&Failure>) -> TunnelStatus {
    let mut status = TunnelStatus::new(match state {
        State::Unenrolled => TunnelState::Unenrolled,
        State::Offline => TunnelState::Offline,
        State::Connecting { .. } => TunnelState::Connecting,
        State::Up { .. } => TunnelState::Up,
        State::Draining => TunnelState::Draining,
        State::Backoff { .. } => TunnelState::Backoff,
        State::Revoked => TunnelState::Revoked,
    });
    let (reason, next_step) = match (state, failure) {
        (State::Up { .. }, _) => return status,
        (State::Unenrolled, _) => (
            "this device is not enrolled",
            "run synctl enroll --gateway HOST:PORT --ca FILE --token-file FILE",
        ),
        (State::Offline, _) => ("the tunnel is stopped", ""),
        (State::Draining, _) => ("this device moves to another connection", ""),
        (_, Some(failure)) => (failure.reason.as_str(), failure.next_step.as_str()),
        (_, None) => ("a connection is being made", ""),
    };
    status.reason = Some(reason.to_owned());
    status.next_step = Some(next_step.to_owned()).filter(|step| !step.is_empty());
    status
}

/// Takes leave of a connection without cutting what runs on it.
fn release(link: &LinkHandle) {
    if link.orders.try_send(Order::Leave).is_err() {
        link.connection.leave("moving");
    }
}

/// A task that panicked is over like any other; its bug should be seen.
fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task of the tunnel panicked");
    }
}

/// What to say of an open tunnel whose path does not answer yet.
fn in_doubt(doubt: Doubt, rebinds: u32) -> String {
    let what = match doubt {
        Doubt::Silence => "the gateway does not answer",
        Doubt::NetworkChange => "the network changed",
    };
    let times = if rebinds == 1 { "once".to_owned() } else { format!("{rebinds} times") };
    format!("{what}; the path was bound anew ({times}) and is being probed")
}

/// The next report of the current link; waits for ever without one.
async fn next_news(current: &mut Option<Current>) -> News {
    let Some(current) = current else { return std::future::pending().await };
    current
        .news
        .recv()
        .await
        .unwrap_or_else(|| News::Ended(Failure::lost("the connection's task ended early")))
}

async fn due(timer: Option<Instant>) {
    match timer {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
