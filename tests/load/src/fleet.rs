//! Many devices at once, each with a connection of its own that it keeps, and heartbeats on it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use synesis_mesh::device::{TunnelState, TunnelStatus};
use synesis_mesh::identity::DeviceIdentity;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::lines::{Lines, parse, say};
use crate::pki::Pki;
use crate::{Transport, grpc, identities, mesh, mqtt};

/// How often somebody looks whether all are there.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Deserialize)]
pub(crate) struct Settings {
    transport: Transport,
    address: SocketAddr,
    /// The peers' certificates; the tunnel's devices are in `devices`.
    pki: PathBuf,
    devices: Option<PathBuf>,
    skip: usize,
    count: usize,
    /// None: as the gateway asks, and 30 s for the others.
    heartbeat_ms: Option<u64>,
    /// Connections that are being made at the same time.
    at_once: usize,
    /// Over this time they come, evenly; so their timers do not run together later.
    #[serde(default)]
    spread_ms: u64,
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Command {
    /// Connects all; answers when they are up.
    Connect,
    /// How many heartbeats were acknowledged so far.
    Beats,
    /// The gateway is about to be killed; what counts as back is decided from here on.
    Mark,
    /// Waits until all are back; when `share` of them were, and the last, in seconds after the mark.
    Back { share: f64, patience_s: u64 },
    /// Ends all connections in good order.
    Leave,
}

/// What all devices of this process tell.
struct Board {
    begun: Instant,
    beats: AtomicU64,
    /// When each came up last, in microseconds since `begun`; zero: never yet.
    up_at: Vec<AtomicU64>,
}

impl Board {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    fn up(&self, index: usize) {
        self.up_at[index].store(self.now(), Ordering::Relaxed);
    }

    fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Of those that came up after `mark`: how long after, in order.
    fn after(&self, mark: u64) -> Vec<f64> {
        let at = self.up_at.iter().map(|at| at.load(Ordering::Relaxed));
        let mut after: Vec<f64> = at.filter(|at| *at > mark).map(|at| (at - mark) as f64 / 1e6).collect();
        after.sort_by(f64::total_cmp);
        after
    }
}

pub(crate) async fn run(settings: Settings) {
    let fleet = Fleet::new(settings);
    say(&json!({ "ready": true }));
    let mut commands = Lines::of_stdin();
    let (stop, mut devices, mut mark) = (CancellationToken::new(), JoinSet::new(), 0);
    while let Some(command) = commands.next().await {
        match parse(command) {
            Command::Connect => {
                let seconds = fleet.connect(&mut devices, &stop).await;
                say(&json!({ "connected": fleet.board.after(0).len(), "seconds": seconds }));
            }
            Command::Beats => say(&json!({ "beats": fleet.board.beats.load(Ordering::Relaxed) })),
            Command::Mark => {
                mark = fleet.board.now();
                say(&json!({ "marked": true }));
            }
            Command::Back { share, patience_s } => {
                let all = async {
                    while fleet.board.after(mark).len() < fleet.count {
                        sleep(LOOK).await;
                    }
                };
                // What is missing after that is in the answer.
                let _ = timeout(Duration::from_secs(patience_s), all).await;
                let after = fleet.board.after(mark);
                let most = ((fleet.count as f64 * share).ceil() as usize).max(1);
                say(&json!({ "back": after.len(), "most_s": after.get(most - 1), "last_s": after.last() }));
            }
            Command::Leave => {
                stop.cancel();
                while devices.join_next().await.is_some() {}
                say(&json!({ "left": fleet.count }));
            }
        }
    }
}

struct Fleet {
    kind: Kind,
    address: SocketAddr,
    skip: usize,
    count: usize,
    heartbeat: Option<Duration>,
    at_once: usize,
    spread: Duration,
    board: Arc<Board>,
}

enum Kind {
    Mesh(Vec<Arc<DeviceIdentity>>),
    Grpc(TlsConnector),
    Mqtt(TlsConnector),
}

impl Fleet {
    fn new(settings: Settings) -> Self {
        let Settings { transport, address, pki, devices, skip, count, heartbeat_ms, at_once, spread_ms } =
            settings;
        let pki = Pki::open(pki);
        let kind = match transport {
            Transport::Mesh => {
                let devices = identities::read(&devices.expect("a file of devices"), skip, count);
                assert_eq!(devices.len(), count, "so many are enrolled");
                Kind::Mesh(devices.into_iter().map(Arc::new).collect())
            }
            Transport::Grpc => Kind::Grpc(grpc::tls(&pki)),
            Transport::Mqtt => Kind::Mqtt(mqtt::tls(&pki)),
            other => panic!("no fleet over {other:?}"),
        };
        let up_at = (0..count).map(|_| AtomicU64::new(0)).collect();
        let board = Arc::new(Board { begun: Instant::now(), beats: AtomicU64::new(0), up_at });
        Self {
            kind,
            address,
            skip,
            count,
            heartbeat: heartbeat_ms.map(Duration::from_millis),
            at_once,
            spread: Duration::from_millis(spread_ms),
            board,
        }
    }

    /// Brings all up, a bounded number at a time; how long that took.
    async fn connect(&self, devices: &mut JoinSet<()>, stop: &CancellationToken) -> f64 {
        let begun = Instant::now();
        let room = Arc::new(Semaphore::new(self.at_once));
        for index in 0..self.count {
            sleep_until(begun + self.spread.mul_f64(index as f64 / self.count as f64)).await;
            let permit = Arc::clone(&room).acquire_owned().await.expect("never closed");
            let seat =
                Seat { index, board: Arc::clone(&self.board), permit: Some(permit), stop: stop.clone() };
            let (address, heartbeat) = (self.address, self.heartbeat);
            let paced = heartbeat.unwrap_or(Duration::from_secs(30));
            match &self.kind {
                Kind::Mesh(all) => {
                    let device = mesh::Device::start(Arc::clone(&all[index]), address, heartbeat);
                    devices.spawn(tunnel(device, seat))
                }
                Kind::Grpc(tls) => devices.spawn(grpc_device(tls.clone(), address, paced, seat)),
                Kind::Mqtt(tls) => {
                    let name = format!("device-{}", self.skip + index);
                    devices.spawn(mqtt_device(tls.clone(), address, name, paced, seat))
                }
            };
        }
        let all = u32::try_from(self.at_once).expect("a small number");
        drop(room.acquire_many(all).await.expect("never closed"));
        begun.elapsed().as_secs_f64()
    }
}

/// A device's place in the fleet.
struct Seat {
    index: usize,
    board: Arc<Board>,
    /// Given back once it is up.
    permit: Option<OwnedSemaphorePermit>,
    stop: CancellationToken,
}

impl Seat {
    fn up(&mut self) {
        self.board.up(self.index);
        self.permit = None;
    }
}

async fn tunnel(device: mesh::Device, mut seat: Seat) {
    let mut status = device.tunnel.status();
    let stop = seat.stop.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        () = watch_tunnel(&mut status, &mut seat) => {}
    }
    device.leave().await;
}

/// Notes every coming up and every acknowledged heartbeat.
async fn watch_tunnel(status: &mut watch::Receiver<TunnelStatus>, seat: &mut Seat) {
    let (mut since, mut rtt) = (None, None);
    loop {
        {
            let now = status.borrow_and_update();
            if now.state == TunnelState::Up && now.connected_since != since {
                since = now.connected_since;
                seat.up();
            }
            if now.rtt.is_some() && now.rtt != rtt {
                seat.board.beat();
            }
            rtt = now.rtt;
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

async fn grpc_device(tls: TlsConnector, address: SocketAddr, heartbeat: Duration, mut seat: Seat) {
    let mut client = grpc::connect(&tls, address).await;
    let (beats, mut acks) = grpc::beats(&mut client).await;
    seat.up();
    let vitals: bytes::Bytes = prost::Message::encode_to_vec(&mesh::typical_vitals()).into();
    let mut ticks = ticks(heartbeat);
    let mut seq = 0;
    loop {
        tokio::select! {
            () = seat.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        seq += 1;
        beats.send(grpc::wire::Beat { seq, vitals: vitals.clone() }).await.expect("the peer lives");
        let ack = acks.message().await.expect("the peer lives").expect("an ack");
        assert_eq!(ack.seq, seq, "in order");
        seat.board.beat();
    }
}

async fn mqtt_device(
    tls: TlsConnector,
    address: SocketAddr,
    name: String,
    heartbeat: Duration,
    mut seat: Seat,
) {
    let mut device = mqtt::Device::connect(&tls, address, &name).await.expect("the broker answers");
    seat.up();
    let mut ticks = ticks(heartbeat);
    for seq in 0.. {
        tokio::select! {
            () = seat.stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        device.beat(seq).await.expect("the broker lives");
        seat.board.beat();
    }
    let _ = device.leave().await;
}

/// The first at once, like the tunnel's.
fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
