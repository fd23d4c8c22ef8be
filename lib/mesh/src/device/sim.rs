//! A network in memory under tokio's paused clock: quinn runs on it unchanged, delay is virtual, and everything that goes
//! wrong with a path goes wrong here when asked: loss, delay, reordering, duplicates, outages, a NAT that forgets,
//! a path that swallows big packets, an address that is no longer ours. The seed decides what happens to which packet.

mod socket;
pub(super) mod world;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use futures_util::future::BoxFuture;
use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::dial::Network;
use super::network_change::{Change, Changes, Outlook};
use crate::carrier::Socket;
use socket::SimSocket;

/// One-way delay of every packet, unless asked otherwise.
pub(super) const DELAY: Duration = Duration::from_millis(20);
/// Ports of devices start here; whoever has one is behind the NAT.
const FIRST_DEVICE_PORT: u16 = 40_000;
const NAT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// What the wires do to packets, in both directions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    /// Share of packets that vanish.
    pub(super) loss: f64,
    /// One way.
    pub(super) delay: Duration,
    /// Share of packets that are held up and so overtaken by later ones.
    pub(super) reorder: f64,
    /// Share of packets that arrive twice.
    pub(super) duplicate: f64,
    /// Bigger UDP payloads vanish.
    pub(super) mtu: usize,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { loss: 0.0, delay: DELAY, reorder: 0.0, duplicate: 0.0, mtu: usize::MAX }
    }
}

/// A datagram on its way: when it arrives, a number that keeps order, who sent it, and its bytes.
type Flying = Reverse<(Instant, u64, SocketAddr, Vec<u8>)>;

/// What arrives at an address. A later socket at the same address takes it over.
struct Inbox {
    owner: u64,
    flying: BinaryHeap<Flying>,
    reader: Option<Waker>,
}

struct Wires {
    conditions: Conditions,
    cut: bool,
    rng: StdRng,
    inboxes: HashMap<SocketAddr, Inbox>,
    /// From a device's address to what the gateway sees of it.
    mappings: HashMap<SocketAddr, SocketAddr>,
    next_mapping: u16,
    /// Addresses whose packets no longer get through.
    stranded: HashSet<SocketAddr>,
    device_ip: Ipv4Addr,
    next_port: u16,
    sockets: u64,
    sent: u64,
    largest: usize,
    panics: bool,
    listeners: Vec<mpsc::Sender<Change>>,
    names: HashMap<String, SocketAddr>,
}

#[derive(Clone)]
pub(super) struct SimNet(Arc<Mutex<Wires>>);

impl SimNet {
    pub(super) fn new(seed: u64, conditions: Conditions) -> Self {
        Self(Arc::new(Mutex::new(Wires {
            conditions,
            cut: false,
            rng: StdRng::seed_from_u64(seed),
            inboxes: HashMap::new(),
            mappings: HashMap::new(),
            next_mapping: 10_000,
            stranded: HashSet::new(),
            device_ip: Ipv4Addr::new(10, 0, 0, 1),
            next_port: FIRST_DEVICE_PORT,
            sockets: 0,
            sent: 0,
            largest: 0,
            panics: false,
            listeners: Vec::new(),
            names: HashMap::new(),
        })))
    }

    pub(super) fn set(&self, conditions: Conditions) {
        self.wires().conditions = conditions;
    }

    /// From now on the name stands for this address.
    pub(super) fn name(&self, name: &str, address: SocketAddr) {
        self.wires().names.insert(name.to_owned(), address);
    }

    /// From now on every packet is lost, or none.
    pub(super) fn cut(&self, cut: bool) {
        self.wires().cut = cut;
    }

    /// The NAT forgets its mappings: what a device sends next comes from another port, and what was on its way to the
    /// old one is lost.
    pub(super) fn forget_mappings(&self) {
        self.wires().mappings.clear();
    }

    /// Nothing from or to the sockets that devices have now gets through any more.
    pub(super) fn strand_sockets(&self) {
        let wires = &mut *self.wires();
        wires.stranded.extend(wires.inboxes.keys().filter(|address| is_device(**address)));
    }

    /// The device gets another address, and the kernel says so. Its sockets keep the old one.
    pub(super) fn move_device_to(&self, ip: Ipv4Addr) {
        self.wires().device_ip = ip;
        self.announce(Change::Other);
    }

    /// The kernel reports a change.
    pub(super) fn announce(&self, change: Change) {
        self.wires().listeners.retain(|listener| listener.try_send(change).is_ok());
    }

    /// The next packet that a device's QUIC sends makes it panic.
    pub(super) fn panic_on_send(&self) {
        self.wires().panics = true;
    }

    /// The largest UDP payload that anybody sent.
    pub(super) fn largest(&self) -> usize {
        self.wires().largest
    }

    /// How many sockets devices have bound.
    pub(super) fn device_sockets(&self) -> u16 {
        self.wires().next_port - FIRST_DEVICE_PORT
    }

    pub(super) fn random<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.wires().rng)
    }

    pub(super) fn endpoint_at(
        &self,
        address: SocketAddr,
        mut config: EndpointConfig,
    ) -> io::Result<Endpoint> {
        let mut seed = [0; 32];
        self.wires().rng.fill_bytes(&mut seed);
        config.rng_seed(Some(seed));
        // quinn's tokio runtime takes its time from tokio, and so obeys a paused clock.
        let runtime = Arc::new(TokioRuntime);
        Endpoint::new_with_abstract_socket(config, None, self.bind(address), runtime)
    }

    fn bind(&self, address: SocketAddr) -> Arc<SimSocket> {
        let wires = &mut *self.wires();
        wires.sockets += 1;
        let owner = wires.sockets;
        wires.inboxes.insert(address, Inbox { owner, flying: BinaryHeap::new(), reader: None });
        Arc::new(SimSocket::new(self.clone(), address, owner))
    }

    fn device_address(&self) -> SocketAddr {
        let wires = &mut *self.wires();
        wires.next_port += 1;
        (wires.device_ip, wires.next_port - 1).into()
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        // A test that makes quinn panic in the middle of a send still wants its network.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for SimNet {
    fn default() -> Self {
        Self::new(1, Conditions::default())
    }
}

impl std::fmt::Debug for SimNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimNet")
    }
}

impl Network for SimNet {
    fn endpoint(&self, _remote: SocketAddr) -> io::Result<Endpoint> {
        self.endpoint_at(self.device_address(), EndpointConfig::default())
    }

    /// Nobody listens on TCP here.
    fn tcp(&self, _remote: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Socket>>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }

    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let known = self.wires().names.get(name).copied();
        Box::pin(async move {
            match known {
                Some(address) => Ok(vec![address]),
                None => name.parse().map(|address| vec![address]).map_err(io::Error::other),
            }
        })
    }

    fn rebind(&self, endpoint: &Endpoint, _remote: SocketAddr) -> io::Result<()> {
        endpoint.rebind_abstract(self.bind(self.device_address()))
    }

    fn changes(&self) -> io::Result<Box<dyn Changes>> {
        let (listener, changes) = mpsc::channel(16);
        self.wires().listeners.push(listener);
        Ok(Box::new(SimChanges(changes)))
    }

    fn outlook(&self, _gateway: Option<SocketAddr>) -> Outlook {
        Outlook::from([Some(IpAddr::V4(self.wires().device_ip)), None, None])
    }
}

#[derive(Debug)]
struct SimChanges(mpsc::Receiver<Change>);

impl Changes for SimChanges {
    fn poll_change(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<Change>> {
        self.0.poll_recv(cx).map(|change| change.ok_or_else(|| io::ErrorKind::BrokenPipe.into()))
    }
}

fn is_device(address: SocketAddr) -> bool {
    address.port() >= FIRST_DEVICE_PORT
}

impl Wires {
    fn send(&mut self, owner: u64, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.sent += 1;
        self.largest = self.largest.max(bytes.len());
        let stale = self.inboxes.get(&from).is_none_or(|inbox| inbox.owner != owner);
        if stale || self.cut || self.stranded.contains(&from) || bytes.len() > self.conditions.mtu {
            return;
        }
        if is_device(from) && from.ip() != self.device_ip {
            return;
        }
        let from = if is_device(from) { self.outside(from) } else { from };
        let Some(to) = self.inside(to) else { return };
        if self.stranded.contains(&to) || self.rng.random_bool(self.conditions.loss) {
            return;
        }
        let copies = 1 + u8::from(self.rng.random_bool(self.conditions.duplicate));
        for _ in 0..copies {
            self.deliver(from, to, bytes);
        }
    }

    /// What the gateway sees of a device's address.
    fn outside(&mut self, device: SocketAddr) -> SocketAddr {
        let next = &mut self.next_mapping;
        *self.mappings.entry(device).or_insert_with(|| {
            *next += 1;
            (NAT, *next).into()
        })
    }

    /// Where a packet to this address ends up.
    fn inside(&self, to: SocketAddr) -> Option<SocketAddr> {
        if to.ip() != NAT {
            return Some(to);
        }
        self.mappings.iter().find(|(_, outside)| **outside == to).map(|(device, _)| *device)
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Conditions { delay, reorder, .. } = self.conditions;
        let held_up = if self.rng.random_bool(reorder) { self.rng.random::<f64>() } else { 0.0 };
        let at = Instant::now() + delay + delay.mul_f64(held_up);
        self.sent += 1;
        let Some(inbox) = self.inboxes.get_mut(&to) else { return };
        inbox.flying.push(Reverse((at, self.sent, from, bytes.to_vec())));
        if let Some(reader) = inbox.reader.take() {
            reader.wake();
        }
    }
}
