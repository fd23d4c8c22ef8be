//! A connected device, from its hello to its last answer.

mod account;
mod adapters;
mod ask;
mod asked;
mod end;
mod meter;
mod release;
pub(crate) mod renew;
mod run;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use synesis_mesh::gateway::{DeviceConnection, Session};
use synesis_mesh::kind::{ErrorCode, StreamKind};
use synesis_mesh::stream::WorkStream;
use synesis_proto::mesh::v1;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;
use uuid::Uuid;

use crate::adapters::AdapterStore;
use crate::answers::Answers;
use crate::authorities::Authorities;
use crate::closing::Closing;
use crate::config::Drain;
use crate::control_plane::{Clock, ControlError, ControlPlane, DeviceState};
use crate::enrol::Refusals;
use crate::failure::chain;
use crate::limits::{self, Class, Devices};
use crate::live::{Live, Presence};
use crate::metrics::Metrics;
use crate::providers::Catalogue;
use crate::rotation;

/// How often a device reports.
const HEARTBEAT_INTERVAL_MS: u64 = 30_000;
/// In which time devices move or come back, for each of them: a gateway takes about 200 devices in a second.
const EACH: Duration = Duration::from_millis(5);
/// Not less, however few there are.
const SOONEST: Duration = Duration::from_secs(1);
/// A device that has not left so long after its time does not do it by itself.
const MOVE_LATE: Duration = Duration::from_secs(1);

/// A refused stream's answer is given this long to leave.
const REFUSAL: Duration = Duration::from_secs(5);

/// Why the oldest of too many sessions ends.
const SUPERSEDED: &str = "newer connections of this device took its place";

/// What serving a device takes; one for the whole gateway.
pub(crate) struct Services {
    pub(crate) plane: Arc<dyn ControlPlane>,
    pub(crate) catalogue: Catalogue,
    pub(crate) answers: Answers,
    pub(crate) adapters: Arc<AdapterStore>,
    pub(crate) live: Live,
    pub(crate) refusals: Refusals,
    pub(crate) devices: Devices,
    /// A device that reads nothing of an answer for this long loses it.
    pub(crate) unread: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) closing: Closing,
    pub(crate) drain: Drain,
    /// In which devices come back when this gateway was lost, when there are many.
    pub(crate) reconnect_window: Duration,
    pub(crate) authorities: watch::Receiver<Arc<Authorities>>,
    pub(crate) gateway_id: String,
    pub(crate) clock: Clock,
}

/// What ends the streams of a session. An answer that is read on one of them ends with it, or goes on without it.
#[derive(Clone, Default)]
struct Ends {
    /// The gateway stops, or the device's identity was taken back: its answers end too.
    cut: CancellationToken,
    /// The connection is over: its answers wait for the device to come back.
    left: CancellationToken,
}

/// Serves one device until its connection is over or the gateway stops.
pub(crate) async fn serve(
    connection: DeviceConnection,
    services: Arc<Services>,
    stopping: CancellationToken,
) {
    let device = connection.device_id();
    let metrics = &services.metrics;
    let mut connection = connection.counted(Arc::clone(&metrics.tally));
    // Entered before the look into the store: a revocation that comes in between finds the entry.
    let presence = services.live.enter(device);
    // A device that connects too often costs no look into the store either. It is told when to come back, after its hello.
    let limited = services.devices.take(device, Class::Connection, Instant::now()).err();
    // Nothing is done for a device that may not come in, not even listened to.
    if let Err((code, reason)) = admit(device, &services).await {
        metrics.refused.count(match code {
            ErrorCode::Revoked => "revoked",
            ErrorCode::UnknownDevice => "unknown_device",
            _ => "store_failed",
        });
        tracing::info!(%device, %code, "device turned away");
        return connection.refuse(code, &reason);
    }
    let hello = tokio::select! {
        biased;
        () = presence.revoked() => {
            metrics.refused.count("revoked");
            return connection.refuse(ErrorCode::Revoked, &ControlError::DeviceRevoked.to_string());
        }
        () = presence.superseded() => {
            metrics.refused.count("superseded");
            return connection.refuse(ErrorCode::RateLimited, SUPERSEDED);
        }
        hello = Box::pin(connection.hello()) => hello,
    };
    let hello = match hello {
        Ok(hello) => hello,
        Err(error) => {
            metrics.refused.count("no_hello");
            return tracing::debug!(%device, %error, "no hello");
        }
    };
    if stopping.is_cancelled() {
        metrics.refused.count("draining");
        return connection.refuse(ErrorCode::Draining, "the gateway is stopping");
    }
    if let Some(wait) = limited {
        metrics.refused.count("device_limit");
        tracing::debug!(%device, ?wait, "a device connects too often");
        return Box::pin(connection.refuse_with(limits::problem(Class::Connection, wait))).await;
    }
    Box::pin(renew::note_pins(device, &hello.pinned, &services)).await;
    let until = connection.certificate().until;
    let session = match Box::pin(connection.welcome(welcome(&services, &hello.pinned))).await {
        Ok(session) => session,
        Err(error) => return tracing::debug!(%device, %error, "the device left before it was welcomed"),
    };
    presence.is_up(session.reports());
    let carrier = session.carrier().as_str();
    tracing::info!(%device, remote = %session.remote(), carrier, agent = hello.agent, "device connected");
    touch(device, &services).await;
    let why = Running { session, device, until, services: &services, presence }.run(stopping).await;
    tracing::info!(%device, why, "device disconnected");
    touch(device, &services).await;
}

async fn admit(device: Uuid, services: &Services) -> Result<(), (ErrorCode, String)> {
    match services.plane.device(device).await {
        Ok(record) if record.state == DeviceState::Enrolled => Ok(()),
        Ok(_) => Err((ErrorCode::Revoked, ControlError::DeviceRevoked.to_string())),
        Err(error @ ControlError::DeviceUnknown) => Err((ErrorCode::UnknownDevice, error.to_string())),
        Err(error) => {
            tracing::error!(%device, error = chain(&error), "the control plane failed");
            Err((ErrorCode::StoreFailed, "the gateway could not look the device up".to_owned()))
        }
    }
}

fn welcome(services: &Services, pinned: &[Bytes]) -> v1::Welcome {
    let (server_ca, retired) = rotation::news(&services.authorities.borrow(), pinned);
    v1::Welcome {
        server_ca,
        retired,
        session_id: session_id(&services.clock).to_string(),
        heartbeat_interval_ms: HEARTBEAT_INTERVAL_MS,
        price_version: services.plane.price_version(),
        receipt_keys: services.plane.receipt_keys().into_iter().map(Into::into).collect(),
        gateway_id: services.gateway_id.clone(),
        server_time_ms: services.clock.now_ms().unsigned_abs(),
        models: services.catalogue.models(),
        reconnect_window_ms: millis(spread(services.live.sessions(), services.reconnect_window)),
        // The mesh fills the version in; there are no optional features yet.
        ..v1::Welcome::default()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn session_id(clock: &Clock) -> Ulid {
    Ulid::from_parts(clock.now_ms().unsigned_abs(), Uuid::new_v4().as_u128())
}

async fn touch(device: Uuid, services: &Services) {
    if let Err(error) = services.plane.touch(device).await {
        tracing::warn!(%device, error = chain(&error), "the time of the visit was not stored");
    }
}

/// A welcomed device.
struct Running<'a> {
    session: Session,
    device: Uuid,
    /// When the certificate of this connection ends.
    until: SystemTime,
    services: &'a Arc<Services>,
    presence: Presence,
}

impl Running<'_> {
    /// Says why it ended.
    async fn run(self, stopping: CancellationToken) -> &'static str {
        let ends = Ends::default();
        // Files go on elsewhere, so they do not keep a stop waiting.
        let bulk_ends = stopping.child_token();
        let mut work = JoinSet::new();
        let mut authorities = self.services.authorities.clone();
        let mut told = rotation::standing_of(&authorities.borrow_and_update());
        let end = renew::end_of(self.until, &self.services.clock);
        let why = loop {
            tokio::select! {
                biased;
                () = self.presence.revoked() => {
                    ends.cut.cancel();
                    self.services.answers.revoke(self.device);
                    self.session.close(ErrorCode::Revoked, &ControlError::DeviceRevoked.to_string());
                    break "revoked";
                }
                () = self.presence.superseded() => {
                    self.session.close(ErrorCode::RateLimited, SUPERSEDED);
                    break SUPERSEDED;
                }
                () = stopping.cancelled() => {
                    Box::pin(self.drain(&mut work)).await;
                    ends.cut.cancel();
                    break "the gateway is stopping";
                }
                () = sleep_until(end) => {
                    self.session.close(ErrorCode::CertificateExpired, "it ended while it was in use");
                    break "its certificate has expired";
                }
                Some(done) = work.join_next() => log_panic(done),
                Ok(()) = authorities.changed() => {
                    let now = authorities.borrow_and_update().clone();
                    let standing = rotation::standing_of(&now);
                    if std::mem::replace(&mut told, standing.clone()) != standing {
                        let (server_ca, retired) = rotation::trust(&now);
                        // A session that is over has nobody to tell.
                        let _ = self.session.trust(server_ca, retired).await;
                    }
                }
                Some(renewing) = self.session.renewal() => {
                    work.spawn(renew::serve(renewing, self.device, Arc::clone(self.services)));
                }
                stream = self.session.work() => match stream {
                    Some(stream) => self.begin(stream, &mut work, &ends, &bulk_ends),
                    None => break "the connection is over",
                },
            }
        };
        // An answer that was cut is settled, and told if the connection is still there.
        if !ends.cut.is_cancelled() {
            ends.left.cancel();
        }
        bulk_ends.cancel();
        while let Some(done) = work.join_next().await {
            log_panic(done);
        }
        self.session.close(ErrorCode::Draining, why);
        why
    }

    fn begin(
        &self,
        mut stream: WorkStream,
        work: &mut JoinSet<()>,
        ends: &Ends,
        bulk_ends: &CancellationToken,
    ) {
        let class = Class::of(stream.header.kind);
        if let Err(wait) = self.services.devices.take(self.device, class, Instant::now()) {
            self.services.metrics.streams_refused.count("rate_limited");
            work.spawn(refuse(stream, limits::problem(class, wait)));
            return;
        }
        stream.tx.cut_unread_after(self.services.unread);
        let (device, services) = (self.device, Arc::clone(self.services));
        let (ends, bulk_ends) = (ends.clone(), bulk_ends.clone());
        work.spawn(async move {
            let _served = Served::of(stream.header.kind, &services.metrics);
            match stream.header.kind {
                StreamKind::Ask => ask::serve(stream, device, &services, ends).await,
                StreamKind::Account => account::serve(stream, device, &services).await,
                StreamKind::AdapterPush => adapters::push(stream, device, &services, bulk_ends).await,
                StreamKind::AdapterPull => adapters::pull(stream, device, &services, bulk_ends).await,
                StreamKind::Adapters => adapters::catalogue(stream, device, &services).await,
                // The mesh never hands one out.
                StreamKind::Control => {}
            }
        });
    }

    /// The device is told to move, and leaves by itself at a moment of its own: closing on it, even on an idle one,
    /// would bring all devices back within the same second. Running answers go on for a while, new ones are refused.
    /// All of it together takes no longer than [`Drain::deadline`], which is within the time the process has for its stop.
    async fn drain(&self, work: &mut JoinSet<()>) {
        let leave = async {
            let within = spread(self.services.live.sessions(), self.services.drain.window);
            // A session that is over has nobody to tell.
            let _ = self.session.drain(within).await;
            let late = Instant::now() + within + MOVE_LATE;
            loop {
                tokio::select! {
                    () = sleep_until(late), if work.is_empty() => return,
                    Some(done) = work.join_next() => log_panic(done),
                    stream = self.session.work() => match stream {
                        Some(stream) => {
                            self.services.metrics.streams_refused.count("draining");
                            let problem = ErrorCode::Draining
                                .problem("the gateway is stopping", "try again in a little while");
                            work.spawn(refuse(stream, problem));
                        }
                        None => return,
                    },
                }
            }
        };
        let left = tokio::select! {
            left = timeout(self.services.drain.deadline, leave) => left.is_ok(),
            () = self.services.closing.hurried() => false,
        };
        if !left {
            match work.len() {
                0 => tracing::debug!(device = %self.device, "the device did not leave in time"),
                running => tracing::warn!(device = %self.device, running, "answers were cut by the stop"),
            }
        }
    }
}

/// The window in which so many devices move or come back, each at a moment of its own: `most`, or less when there are
/// few.
fn spread(devices: usize, most: Duration) -> Duration {
    EACH.saturating_mul(u32::try_from(devices).unwrap_or(u32::MAX)).max(SOONEST).min(most)
}

/// Tells why a stream is not served. Who cannot be told has gone.
async fn refuse(stream: WorkStream, problem: v1::Problem) {
    let _ = timeout(REFUSAL, stream.refuse_with(problem)).await;
}

/// Counts a stream that is being served, while it lives.
struct Served {
    kind: StreamKind,
    metrics: Metrics,
}

impl Served {
    fn of(kind: StreamKind, metrics: &Metrics) -> Self {
        metrics.streams.count(kind.as_str());
        Self { kind, metrics: metrics.clone() }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.metrics.streams_ended.count(self.kind.as_str());
    }
}

fn log_panic(done: Result<(), tokio::task::JoinError>) {
    if let Err(error) = done {
        tracing::error!(%error, "serving a stream panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_devices_move_at_once_and_many_take_their_time() {
        let seconds = |devices| spread(devices, Duration::from_secs(10)).as_secs_f32();
        assert_eq!([0, 1, 200, 500, 2_000, usize::MAX].map(seconds), [1.0, 1.0, 1.0, 2.5, 10.0, 10.0]);
        assert_eq!(spread(1, Duration::from_millis(10)), Duration::from_millis(10));
    }
}
