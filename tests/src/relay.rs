//! A UDP relay on loopback that stands between devices and a gateway and does to their packets what networks do: drops,
//! delays, reorders them, gives a device another address, swallows everything. All chances are drawn from one seed; memory
//! is bounded; it ends with its owner.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::ready::PATIENCE;

/// Devices at the same time; the packets of more are dropped.
const MOST_CLIENTS: usize = 4096;
/// Packets in flight; more are dropped, as a full queue on the way would.
const MOST_FLYING: usize = 16 * 1024;
/// The largest datagram.
const DATAGRAM: usize = 65_535;

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the device to the gateway.
    Up,
    /// From the gateway to the device.
    Down,
}

/// What happens to packets, both ways.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// How likely a packet is lost, 0 to 1.
    pub loss: f64,
    /// One way.
    pub delay: Duration,
    /// Up to this much more, drawn for each packet, without changing their order.
    pub jitter: Duration,
    /// How likely a packet is overtaken by those that follow within [`Path::late_by`], 0 to 1.
    pub reorder: f64,
    /// How much later such a packet comes.
    pub late_by: Duration,
}

impl Path {
    /// Nothing happens.
    pub const CLEAR: Self = Self {
        loss: 0.0,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        reorder: 0.0,
        late_by: Duration::ZERO,
    };

    /// A round trip of this length, and so much loss.
    pub fn of(round_trip: Duration, loss: f64) -> Self {
        Self { loss, delay: round_trip / 2, ..Self::CLEAR }
    }
}

/// What went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Packets and bytes to the gateway.
    pub up: (u64, u64),
    /// Packets and bytes to devices.
    pub down: (u64, u64),
    /// Packets that did not arrive, for whatever reason.
    pub dropped: u64,
    /// Addresses that devices were seen with at the gateway.
    pub bindings: u64,
}

#[derive(Debug)]
struct State {
    rng: StdRng,
    path: Path,
    /// Everything is swallowed.
    cut: bool,
    /// After so many more bytes in this direction, everything is.
    cut_after: Option<(Way, u64)>,
    /// Devices whose packets are swallowed for good, as by a NAT that forgot them.
    forgotten: Vec<SocketAddr>,
    clients: Vec<SocketAddr>,
    /// Counts the orders for another address.
    rebinding: u64,
    counts: Counts,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stop: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running relay.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts one in front of `upstream` (`host:port` on loopback). The seed decides every chance.
    ///
    /// # Panics
    /// When there is no loopback socket to be had, or `upstream` is elsewhere.
    pub fn start(upstream: &str, seed: u64) -> Self {
        let upstream: SocketAddr = upstream.parse().expect("an address and a port");
        assert!(upstream.ip().is_loopback(), "a relay serves this machine only");
        let front = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        front.set_nonblocking(true).expect("a socket");
        let address = front.local_addr().expect("bound");
        let state = State {
            rng: StdRng::seed_from_u64(seed),
            path: Path::CLEAR,
            cut: false,
            cut_after: None,
            forgotten: Vec::new(),
            clients: Vec::new(),
            rebinding: 0,
            counts: Counts::default(),
        };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), stop: Notify::new() });
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(serve(front, upstream, &shared));
            })
        };
        Self { address, shared, thread: Some(thread) }
    }

    /// Where devices dial.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on, packets fare like this.
    pub fn set_path(&self, path: Path) {
        self.shared.lock().path = path;
    }

    /// A black hole: from now on nothing arrives, either way, and nobody is told.
    pub fn cut(&self) {
        let mut state = self.shared.lock();
        (state.cut, state.cut_after) = (true, None);
        self.shared.changed.notify_all();
    }

    /// A black hole as soon as `bytes` more have gone `way`. The packet that reaches the number does not arrive.
    pub fn cut_after(&self, way: Way, bytes: u64) {
        self.shared.lock().cut_after = Some((way, bytes));
    }

    /// Packets arrive again.
    pub fn heal(&self) {
        let mut state = self.shared.lock();
        (state.cut, state.cut_after) = (false, None);
    }

    /// Every device known now has another address from now on, as behind a NAT that was restarted: the gateway hears it
    /// from there, and what it sends to the old address is lost.
    pub fn rebind(&self) {
        self.shared.lock().rebinding += 1;
    }

    /// The connections of now are dead for good, and nobody is told; new ones (from another port) are not.
    pub fn forget(&self) {
        let mut state = self.shared.lock();
        let known = state.clients.clone();
        state.forgotten.extend(known);
    }

    /// What went through so far.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }

    /// Whether nothing arrives.
    pub fn is_cut(&self) -> bool {
        self.shared.lock().cut
    }

    /// Blocks until nothing arrives any more, by [`Relay::cut`] or [`Relay::cut_after`]; false when it takes too long.
    pub fn wait_until_cut(&self) -> bool {
        self.wait(|state| state.cut)
    }

    /// Blocks until the counts are as wanted; false when it takes too long.
    pub fn wait_for(&self, wanted: impl Fn(&Counts) -> bool) -> bool {
        self.wait(|state| wanted(&state.counts))
    }

    fn wait(&self, wanted: impl Fn(&State) -> bool) -> bool {
        let state = self.shared.lock();
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| !wanted(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet on its way, ordered by its arrival.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    due: Instant,
    order: u64,
    up: bool,
    client: SocketAddr,
    bytes: Vec<u8>,
}

/// A device's address at the gateway.
struct Binding {
    back: Arc<UdpSocket>,
    made_at: u64,
    /// Carries what the gateway sends there; it ends with this.
    _reading: JoinSet<()>,
}

struct Carrier<'a> {
    front: UdpSocket,
    upstream: SocketAddr,
    shared: &'a Shared,
    bindings: HashMap<SocketAddr, Binding>,
    flying: BinaryHeap<Reverse<Flying>>,
    /// In each direction nothing arrives before what was sent earlier, unless it is to be overtaken.
    last_due: [Option<Instant>; 2],
    sent: u64,
    answers: mpsc::Sender<(SocketAddr, Vec<u8>)>,
}

async fn serve(front: std::net::UdpSocket, upstream: SocketAddr, shared: &Shared) {
    let front = UdpSocket::from_std(front).expect("a nonblocking socket");
    let (answers, mut answered) = mpsc::channel(256);
    let mut carrier = Carrier {
        front,
        upstream,
        shared,
        bindings: HashMap::new(),
        flying: BinaryHeap::new(),
        last_due: [None; 2],
        sent: 0,
        answers,
    };
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let due = carrier.flying.peek().map(|Reverse(next)| next.due);
        tokio::select! {
            () = shared.stop.notified() => return,
            got = carrier.front.recv_from(&mut buffer) => {
                // A port that is closed at the other end is reported here; it means nothing to the others.
                if let Ok((length, client)) = got {
                    carrier.take(Way::Up, client, &buffer[..length]);
                }
            }
            Some((client, bytes)) = answered.recv() => carrier.take(Way::Down, client, &bytes),
            () = at(due) => {}
        }
        carrier.deliver().await;
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

impl Carrier<'_> {
    /// Decides what becomes of a packet.
    fn take(&mut self, way: Way, client: SocketAddr, bytes: &[u8]) {
        let mut state = self.shared.lock();
        let state = &mut *state;
        if way == Way::Up && !state.clients.contains(&client) && state.clients.len() < MOST_CLIENTS {
            state.clients.push(client);
        }
        if let Some((on, left)) = &mut state.cut_after
            && *on == way
        {
            *left = left.saturating_sub(bytes.len() as u64);
            if *left == 0 {
                (state.cut, state.cut_after) = (true, None);
                self.shared.changed.notify_all();
            }
        }
        let lost = state.path.loss > 0.0 && state.rng.random_bool(state.path.loss.min(1.0));
        let full = self.flying.len() >= MOST_FLYING || !state.clients.contains(&client);
        if state.cut || lost || full || state.forgotten.contains(&client) {
            state.counts.dropped += 1;
            self.shared.changed.notify_all();
            return;
        }
        let path = state.path;
        let jitter = path.jitter.mul_f64(state.rng.random::<f64>());
        let mut due = Instant::now() + path.delay + jitter;
        let last = &mut self.last_due[usize::from(way == Way::Up)];
        if path.reorder > 0.0 && state.rng.random_bool(path.reorder.min(1.0)) {
            due += path.late_by;
        } else {
            due = last.map_or(due, |last| due.max(last));
            *last = Some(due);
        }
        self.sent += 1;
        let flying = Flying { due, order: self.sent, up: way == Way::Up, client, bytes: bytes.to_vec() };
        self.flying.push(Reverse(flying));
    }

    /// Hands over what is due.
    async fn deliver(&mut self) {
        while self.flying.peek().is_some_and(|Reverse(next)| next.due <= Instant::now()) {
            let Some(Reverse(packet)) = self.flying.pop() else { return };
            let arrived = match packet.up {
                true => match self.back(packet.client).await {
                    Some(back) => back.send(&packet.bytes).await.is_ok(),
                    None => false,
                },
                false => self.front.send_to(&packet.bytes, packet.client).await.is_ok(),
            };
            let mut state = self.shared.lock();
            let counts = &mut state.counts;
            match arrived {
                false => counts.dropped += 1,
                true => {
                    let of_way = if packet.up { &mut counts.up } else { &mut counts.down };
                    *of_way = (of_way.0 + 1, of_way.1 + packet.bytes.len() as u64);
                }
            }
            drop(state);
            self.shared.changed.notify_all();
        }
    }

    /// The socket that a device's packets leave from.
    async fn back(&mut self, client: SocketAddr) -> Option<Arc<UdpSocket>> {
        let rebinding = self.shared.lock().rebinding;
        if let Some(binding) = self.bindings.get(&client)
            && binding.made_at == rebinding
        {
            return Some(Arc::clone(&binding.back));
        }
        let back = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?);
        back.connect(self.upstream).await.ok()?;
        let (reading, answers) = (Arc::clone(&back), self.answers.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut buffer = vec![0; DATAGRAM];
            loop {
                // As above: an error is of one packet, and nobody's end.
                if let Ok(length) = reading.recv(&mut buffer).await
                    && answers.send((client, buffer[..length].to_vec())).await.is_err()
                {
                    return;
                }
            }
        });
        self.shared.lock().counts.bindings += 1;
        // The old socket goes, and what the gateway still sends there with it.
        self.bindings
            .insert(client, Binding { back: Arc::clone(&back), made_at: rebinding, _reading: tasks });
        Some(back)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// A device, a gateway that echoes with the address it sees, and the relay between them.
    struct World {
        relay: Relay,
        device: UdpSocket,
        gateway: UdpSocket,
    }

    impl World {
        fn start(seed: u64) -> Self {
            let socket = || {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket
            };
            let (device, gateway) = (socket(), socket());
            let relay = Relay::start(&gateway.local_addr().unwrap().to_string(), seed);
            device.connect(relay.address()).unwrap();
            Self { relay, device, gateway }
        }

        fn up(&self, text: &str) {
            self.device.send(text.as_bytes()).unwrap();
        }

        fn arrives(&self) -> (String, SocketAddr) {
            let mut buffer = [0; 2048];
            let (length, from) = self.gateway.recv_from(&mut buffer).unwrap();
            (String::from_utf8(buffer[..length].to_vec()).unwrap(), from)
        }

        /// There and back; the address that the gateway saw.
        fn echo(&self, text: &str) -> SocketAddr {
            self.up(text);
            let (said, from) = self.arrives();
            assert_eq!(said, text);
            self.gateway.send_to(said.as_bytes(), from).unwrap();
            let mut buffer = [0; 2048];
            let length = self.device.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], text.as_bytes());
            from
        }

        fn dropped(&self, count: u64) {
            assert!(self.relay.wait_for(|counts| counts.dropped >= count), "{:?}", self.relay.counts());
        }
    }

    #[test]
    fn packets_go_both_ways_and_a_cut_swallows_them_until_it_heals() {
        let world = World::start(1);
        let from = world.echo("one");
        world.relay.cut();
        world.up("lost");
        world.dropped(1);
        world.gateway.send_to(b"lost too", from).unwrap();
        world.dropped(2);
        world.relay.heal();
        assert_eq!(world.echo("two"), from);
        // A packet is counted when it is handed over, and may be read a moment before.
        let counted = |counts: &Counts| (counts.up, counts.down, counts.bindings) == ((2, 6), (2, 6), 1);
        assert!(world.relay.wait_for(counted), "{:?}", world.relay.counts());
    }

    #[test]
    fn a_cut_at_a_byte_comes_with_the_packet_that_reaches_it() {
        let world = World::start(1);
        world.relay.cut_after(Way::Up, 10);
        world.echo("12345");
        world.up("67890");
        assert!(world.relay.wait_until_cut());
        world.dropped(1);
    }

    #[test]
    fn a_rebinding_gives_the_device_another_address_and_loses_what_goes_to_the_old_one() {
        let world = World::start(1);
        let before = world.echo("one");
        world.relay.rebind();
        assert_ne!(world.echo("two"), before);
        // Nobody listens there any more.
        world.gateway.send_to(b"late", before).unwrap();
        world.echo("three");
        assert_eq!(world.relay.counts().bindings, 2);
    }

    #[test]
    fn a_forgotten_device_is_dead_and_a_new_one_is_not() {
        let world = World::start(1);
        world.echo("one");
        world.relay.forget();
        world.up("lost");
        world.dropped(1);
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.send_to(b"new", world.relay.address()).unwrap();
        assert_eq!(world.arrives().0, "new");
    }

    #[test]
    fn the_same_seed_loses_the_same_packets() {
        let arrived = |seed| {
            let world = World::start(seed);
            world.relay.set_path(Path { loss: 0.5, ..Path::CLEAR });
            for n in 0..100 {
                world.up(&n.to_string());
            }
            assert!(world.relay.wait_for(|counts| counts.up.0 + counts.dropped == 100));
            (0..world.relay.counts().up.0).map(|_| world.arrives().0).collect::<Vec<_>>()
        };
        let once = arrived(7);
        assert!((20..80).contains(&once.len()), "{}", once.len());
        assert_eq!(once, arrived(7));
        assert_ne!(once, arrived(8));
    }

    #[test]
    fn delays_keep_the_order_and_reordering_does_not() {
        let world = World::start(3);
        let order = |path| {
            world.relay.set_path(path);
            for n in 0..50 {
                world.up(&n.to_string());
            }
            (0..50).map(|_| world.arrives().0.parse::<u32>().unwrap()).collect::<Vec<_>>()
        };
        let millis = Duration::from_millis;
        let slow = Path { delay: millis(2), jitter: millis(2), ..Path::CLEAR };
        assert_eq!(order(slow), (0..50).collect::<Vec<_>>());
        let mut mixed = order(Path { reorder: 0.2, late_by: millis(20), ..slow });
        assert_ne!(mixed, (0..50).collect::<Vec<_>>());
        mixed.sort_unstable();
        assert_eq!(mixed, (0..50).collect::<Vec<_>>(), "nothing is lost");
    }
}
