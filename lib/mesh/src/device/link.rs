//! One connection from its dial to its end: hello, then the control loop. Reports to the driver, and dies with it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::control_down::Message as Down;
use synesis_proto::mesh::v1::control_up::Message as Up;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::dial::{Dial, Dialled, Network};
use super::enroll::renew_expired;
use super::liveness::{Due, Liveness};
use super::renewal::Renewal;
use super::{Failure, TunnelConfig, Verdict};
use crate::carrier::Connection;
use crate::frame::{FrameError, FrameReader, FrameWriter};
use crate::identity::{DeviceIdentity, WallClock};
use crate::kind::{ALPN_MESH, PROTOCOL_VERSIONS, StreamKind};
use crate::stream::{RawStream, RecvHalf, SendHalf};
use crate::tls::{self, ClientTls};

const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(30);
/// A gateway cannot ask for heartbeats faster or slower than this.
const HEARTBEAT_BOUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(300));
/// A gateway cannot ask a device to wait longer than this before it moves.
const MAX_DRAIN: Duration = Duration::from_secs(3600);
/// A control message that cannot leave for this long is left to the next one.
const SEND_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a leaving link waits for the gateway's end of the control stream.
const FAREWELL: Duration = Duration::from_secs(10);
const ORDERS: usize = 8;

/// What a link reports to the driver.
pub(super) enum News {
    Up(Box<LinkUp>),
    Rtt(Duration),
    /// The path was bound anew, and has not answered yet.
    Rebound(Doubt),
    Prewarm(String),
    Drain(Duration),
    /// The same device with another certificate or other CAs, to be stored.
    Renewed(Arc<DeviceIdentity>),
    /// It is time for another certificate, and there is none, because of this.
    NotRenewed(String),
    Ended(Failure),
}

/// Why a path is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Heartbeats stay unanswered.
    Silence,
    /// This machine's network is another one now.
    NetworkChange,
}

/// A welcomed link.
pub(super) struct LinkUp {
    pub(super) handle: LinkHandle,
    pub(super) welcome: Arc<v1::Welcome>,
    pub(super) gateway: String,
    pub(super) clock_offset_ms: Option<i64>,
}

/// What others may do with a link.
#[derive(Debug, Clone)]
pub(super) struct LinkHandle {
    pub(super) connection: Connection,
    pub(super) orders: mpsc::Sender<Order>,
    /// Counts the open work streams.
    pub(super) busy: watch::Sender<usize>,
}

#[derive(Debug)]
pub(super) enum Order {
    /// Send a heartbeat now and answer with its round trip.
    Ping(oneshot::Sender<Duration>),
    /// The network changed: bind the path anew and probe it.
    Rebind,
    /// Say goodbye and go, without closing the connection under the work that runs on it.
    Leave,
}

/// Runs a link from dial to end. Returns early when the driver no longer listens.
pub(super) async fn run(
    config: TunnelConfig,
    identity: Arc<DeviceIdentity>,
    network: Arc<dyn Network>,
    head_start: Duration,
    news: mpsc::Sender<News>,
) {
    let failure = match connect(&config, &identity, &network, head_start).await {
        Ok(welcomed) => return carry(welcomed, news).await,
        // Only the gateway's word counts: by the clock of this device every certificate may have expired.
        Err(failure) if failure.expired => match renew_expired(&config, &identity, &*network).await {
            Ok(renewed) => {
                // Without a listener there is nobody to tell.
                let _ = news.send(News::Renewed(Arc::new(renewed))).await;
                Failure::lost("the certificate had expired and was renewed")
            }
            Err(failure) => failure,
        },
        Err(failure) => failure,
    };
    // Without a listener there is nobody to tell.
    let _ = news.send(News::Ended(failure)).await;
}

/// Runs a welcomed link to its end.
pub(super) async fn carry((mut link, up): (Link, LinkUp), news: mpsc::Sender<News>) {
    let renewed = link.renewal.welcomed(&up.welcome);
    if news.send(News::Up(Box::new(up))).await.is_err() {
        return;
    }
    if let Some(identity) = renewed {
        // Without a listener, the closed order channel ends the loop.
        let _ = news.send(News::Renewed(identity)).await;
    }
    if let Some(failure) = link.serve(&news).await {
        // Without a listener there is nobody to tell.
        let _ = news.send(News::Ended(failure)).await;
    }
}

/// A connection that was welcomed. `head_start`: how long QUIC is tried before TCP.
pub(super) async fn connect(
    config: &TunnelConfig,
    identity: &Arc<DeviceIdentity>,
    network: &Arc<dyn Network>,
    head_start: Duration,
) -> Result<(Link, LinkUp), Failure> {
    let timing = &config.timing;
    let tls = tls::device(identity, ALPN_MESH, &config.clock).and_then(ClientTls::try_from);
    let tls = tls.map_err(|error| Failure::identity(&error))?;
    let (gateways, each, fallback) = (config.gateways(identity), timing.connect_timeout, &config.fallback);
    let Dialled { connection, gateway } =
        Dial { gateways, tls, each, fallback, head_start }.run(&**network).await?;
    let pinned = identity.pinned().iter().map(|pin| pin.to_vec().into()).collect();
    let first = v1::Hello {
        versions: PROTOCOL_VERSIONS.to_vec(),
        features: Vec::new(),
        agent: config.agent.clone(),
        pinned,
    };
    let hello = timeout(timing.hello_timeout, hello(&connection, first)).await;
    let late = |_| Failure::unreachable(&gateway, "it finished the handshake and then did not answer");
    let (tx, rx, welcome) = hello.map_err(late)?.map_err(|error| match error {
        HelloError::Frame(error) => Failure::frame(&gateway, &error),
        HelloError::Refused(failure) => failure,
    })?;

    let clock_offset_ms = offset_ms(&config.clock, welcome.server_time_ms);
    let renewal = Renewal::new(identity.clone(), config.clock.clone(), clock_offset_ms.unwrap_or(0))?;
    let asked = Duration::from_millis(welcome.heartbeat_interval_ms);
    let asked = if asked.is_zero() { DEFAULT_HEARTBEAT } else { asked };
    let interval = timing.heartbeat.unwrap_or(asked).clamp(HEARTBEAT_BOUNDS.0, HEARTBEAT_BOUNDS.1);
    let (orders_in, orders) = mpsc::channel(ORDERS);
    let (busy_in, busy) = watch::channel(0);
    let path = Path { network: network.clone(), connection: connection.clone() };
    let link = Link {
        gateway: gateway.clone(),
        path,
        tx,
        rx,
        orders,
        busy,
        vitals: config.vitals.clone(),
        liveness: Liveness::new(interval, timing, Instant::now()),
        pings: Vec::new(),
        renewal,
    };
    let handle = LinkHandle { connection, orders: orders_in, busy: busy_in };
    Ok((link, LinkUp { handle, welcome: Arc::new(welcome), gateway, clock_offset_ms }))
}

/// What the gateway's clock is ahead of ours, give or take the way here; absent when it did not say.
fn offset_ms(clock: &WallClock, server_time_ms: u64) -> Option<i64> {
    let ours = clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ours = i64::try_from(ours.as_millis()).ok()?;
    let theirs = i64::try_from(server_time_ms).ok().filter(|ms| *ms > 0)?;
    theirs.checked_sub(ours)
}

/// The gateway may be down, and then everybody lost it; or only our path is, and then somebody who waits for an answer
/// should not wait for others.
fn silent(working: bool) -> Failure {
    const REASON: &str = "the gateway stopped answering";
    if working { Failure::lost(REASON) } else { Failure::lost_with_others(REASON) }
}

enum HelloError {
    Frame(FrameError),
    Refused(Failure),
}

impl From<FrameError> for HelloError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

async fn hello(
    connection: &Connection,
    hello: v1::Hello,
) -> Result<(FrameWriter<SendHalf>, FrameReader<RecvHalf>, v1::Welcome), HelloError> {
    let stream = connection.open().await.map_err(FrameError::ConnectionLost)?;
    let (mut tx, mut rx) = RawStream::new(stream, None).with_kind(StreamKind::Control);
    let written = tx.write(&v1::ControlUp { message: Some(Up::Hello(hello)) }).await;
    if let Err(error) = written {
        // Why it could not be written is in what the gateway said last, if it said anything.
        let said = rx.read::<v1::ControlDown>().await;
        return Err(said.err().unwrap_or(error).into());
    }
    let answer = rx.read::<v1::ControlDown>().await?.ok_or(FrameError::Truncated)?;
    match answer.message {
        Some(Down::Welcome(welcome)) if PROTOCOL_VERSIONS.contains(&welcome.version) => Ok((tx, rx, welcome)),
        Some(Down::Welcome(welcome)) => Err(HelloError::Refused(Failure::new(
            Verdict::Refused,
            format!("the gateway chose protocol version {}, which was not offered", welcome.version),
            "update this device or the gateway",
        ))),
        Some(Down::Problem(problem)) => Err(HelloError::Refused(Failure::problem(&problem))),
        _ => Err(HelloError::Refused(Failure::lost("the gateway answered the hello with something else"))),
    }
}

/// What packets travel on.
struct Path {
    network: Arc<dyn Network>,
    connection: Connection,
}

impl Path {
    /// Goes on from a fresh socket, and so through a fresh NAT mapping; streams survive. Not over TCP, which cannot move:
    /// whether it was done.
    fn rebind(&self) -> io::Result<bool> {
        let Some(endpoint) = self.connection.endpoint() else { return Ok(false) };
        self.network.rebind(endpoint, self.connection.remote())?;
        Ok(true)
    }
}

/// The device's end of a control stream.
pub(super) struct Link {
    gateway: String,
    path: Path,
    tx: FrameWriter<SendHalf>,
    rx: FrameReader<RecvHalf>,
    orders: mpsc::Receiver<Order>,
    busy: watch::Receiver<usize>,
    vitals: watch::Receiver<Option<v1::Vitals>>,
    liveness: Liveness,
    pings: Vec<(u64, oneshot::Sender<Duration>)>,
    renewal: Renewal,
}

impl Link {
    /// Serves until the connection fails (why), or until it was told to leave or nobody listens (nothing).
    async fn serve(mut self, news: &mpsc::Sender<News>) -> Option<Failure> {
        loop {
            let working = *self.busy.borrow_and_update() > 0;
            let (at, due) = self.liveness.next(working);
            let done = tokio::select! {
                message = self.rx.read::<v1::ControlDown>() => match message {
                    Ok(Some(message)) => self.take(message.message, news).await,
                    Ok(None) => Err(Failure::lost("the gateway ended the control stream")),
                    Err(error) => Err(Failure::frame(&self.gateway, &error)),
                },
                order = self.orders.recv() => match order {
                    Some(Order::Ping(answer)) => self.ping(answer).await,
                    Some(Order::Rebind) => self.rebind(Doubt::NetworkChange, news).await,
                    Some(Order::Leave) => {
                        self.goodbye().await;
                        return None;
                    }
                    None => return None,
                },
                () = sleep_until(self.renewal.at()) => self.renew(news).await,
                // A stream was opened or ended: the pace may change.
                Ok(()) = self.busy.changed() => Ok(()),
                () = sleep_until(at) => match due {
                    Due::Beat => self.beat(true).await.map(|_| ()),
                    Due::Rebind => {
                        self.liveness.rebound(Instant::now());
                        self.rebind(Doubt::Silence, news).await
                    }
                    Due::Lost => Err(silent(working)),
                },
            };
            if let Err(failure) = done {
                return Some(failure);
            }
        }
    }

    async fn take(&mut self, message: Option<Down>, news: &mpsc::Sender<News>) -> Result<(), Failure> {
        let report = match message {
            Some(Down::Ack(ack)) => match self.liveness.acked(ack.seq, Instant::now()) {
                Some(rtt) => {
                    self.answer_pings(ack.seq, rtt);
                    News::Rtt(rtt)
                }
                None => return Ok(()),
            },
            Some(Down::Ping(ping)) => return self.send(Up::Pong(v1::Pong { seq: ping.seq })).await,
            Some(Down::Renewed(renewed)) => match self.renewal.take(renewed) {
                Ok(Some(identity)) => News::Renewed(identity),
                Ok(None) => return Ok(()),
                Err(error) => {
                    tracing::warn!(gateway = self.gateway, %error, "the certificate was not renewed");
                    News::NotRenewed(error.to_string())
                }
            },
            Some(Down::Prewarm(prewarm)) => News::Prewarm(prewarm.adapter),
            Some(Down::Drain(drain)) => News::Drain(Duration::from_millis(drain.within_ms).min(MAX_DRAIN)),
            Some(Down::Problem(problem)) => return Err(Failure::problem(&problem)),
            // A message of a newer version, or a second welcome: it must not harm.
            Some(Down::Welcome(_)) | None => return Ok(()),
        };
        // Without a listener, the closed order channel ends the loop.
        let _ = news.send(report).await;
        Ok(())
    }

    async fn rebind(&mut self, doubt: Doubt, news: &mpsc::Sender<News>) -> Result<(), Failure> {
        match self.path.rebind() {
            Ok(true) => {
                tracing::debug!(gateway = self.gateway, ?doubt, "the path is bound anew");
                // Without a listener, the closed order channel ends the loop.
                let _ = news.send(News::Rebound(doubt)).await;
            }
            Ok(false) => tracing::debug!(gateway = self.gateway, ?doubt, "probing the path"),
            // The old socket stays, and with it a chance.
            Err(error) => tracing::warn!(gateway = self.gateway, %error, "no fresh socket for the tunnel"),
        }
        self.probe().await.map(|_| ())
    }

    /// A heartbeat out of turn; its number.
    async fn probe(&mut self) -> Result<u64, Failure> {
        match self.liveness.saturated() {
            Some(seq) => Ok(seq),
            None => self.beat(false).await,
        }
    }

    /// Asks for another certificate, when it is time. A key that cannot be made is no reason to give a connection up.
    async fn renew(&mut self, news: &mpsc::Sender<News>) -> Result<(), Failure> {
        match self.renewal.ask() {
            Ok(Some(renew)) => {
                tracing::info!(gateway = self.gateway, "asking for another certificate");
                self.send(Up::Renew(renew)).await
            }
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, "the certificate was not renewed");
                // Without a listener, the closed order channel ends the loop.
                let _ = news.send(News::NotRenewed(error.to_string())).await;
                Ok(())
            }
        }
    }

    async fn ping(&mut self, answer: oneshot::Sender<Duration>) -> Result<(), Failure> {
        self.pings.retain(|(_, waiting)| !waiting.is_closed());
        let seq = self.probe().await?;
        self.pings.push((seq, answer));
        Ok(())
    }

    fn answer_pings(&mut self, seq: u64, rtt: Duration) {
        for (_, answer) in self.pings.extract_if(.., |(waiting, _)| *waiting <= seq) {
            // Who asked may have gone.
            let _ = answer.send(rtt);
        }
    }

    async fn beat(&mut self, with_vitals: bool) -> Result<u64, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let vitals = if with_vitals { self.vitals.borrow().clone() } else { None };
        let micros = |rtt: Duration| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        let last_rtt_us = self.liveness.rtt().map(micros);
        let seq = self.liveness.sent(Instant::now());
        let sent_at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.send(Up::Heartbeat(v1::Heartbeat { seq, sent_at_ms, vitals, last_rtt_us })).await?;
        Ok(seq)
    }

    /// Sends, but never waits long: what cannot leave now leaves with the next message, and the acks that stay away
    /// tell the rest.
    async fn send(&mut self, message: Up) -> Result<(), Failure> {
        let message = v1::ControlUp { message: Some(message) };
        match timeout(SEND_TIMEOUT, self.tx.write(&message)).await {
            Ok(written) => written.map_err(|error| Failure::frame(&self.gateway, &error)),
            Err(_) => Ok(()),
        }
    }

    async fn goodbye(&mut self) {
        let goodbye = Up::Goodbye(v1::Goodbye { reason: "moving".to_owned() });
        // The connection may be gone already, and then there is nobody to take leave of.
        let _ = self.send(goodbye).await;
        let _ = timeout(SEND_TIMEOUT, self.tx.finish()).await;
        // Hearing the gateway out matters: a control stream that is torn off looks like a fault, and a fault ends
        // the connection with all its work.
        let end = async { while let Ok(Some(_)) = self.rx.read::<v1::ControlDown>().await {} };
        let _ = timeout(FAREWELL, end).await;
    }
}
