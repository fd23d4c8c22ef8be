//! A network in memory under tokio's paused clock: quinn runs on it unchanged, delay is virtual, and a switch cuts it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, TokioRuntime, UdpPoller};
use tokio::time::{Instant, Sleep, sleep_until};

use super::dial::Network;
use crate::carrier::Socket;

/// One-way delay of every packet.
pub(super) const DELAY: Duration = Duration::from_millis(20);

/// A datagram on its way: when it arrives, a number that keeps order, who sent it, and its bytes.
type Flying = Reverse<(Instant, u64, SocketAddr, Vec<u8>)>;

#[derive(Default)]
struct Inbox {
    flying: BinaryHeap<Flying>,
    reader: Option<Waker>,
}

#[derive(Default)]
struct Wires {
    inboxes: HashMap<SocketAddr, Inbox>,
    sent: u64,
    cut: bool,
}

#[derive(Clone, Default)]
pub(super) struct SimNet {
    wires: Arc<Mutex<Wires>>,
    next_port: Arc<AtomicU16>,
    names: Arc<Mutex<HashMap<String, SocketAddr>>>,
}

impl SimNet {
    /// From now on the name stands for this address.
    pub(super) fn name(&self, name: &str, address: SocketAddr) {
        self.names.lock().unwrap().insert(name.to_owned(), address);
    }

    /// From now on every packet is lost, or none.
    pub(super) fn cut(&self, cut: bool) {
        self.wires().cut = cut;
    }

    pub(super) fn endpoint_at(&self, address: SocketAddr) -> io::Result<Endpoint> {
        self.wires().inboxes.insert(address, Inbox::default());
        let socket = SimSocket { net: self.clone(), address, timer: Mutex::new(None) };
        // quinn's tokio runtime takes its time from tokio, and so obeys a paused clock.
        let runtime = Arc::new(TokioRuntime);
        Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, Arc::new(socket), runtime)
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap()
    }
}

impl Network for SimNet {
    fn endpoint(&self, _remote: SocketAddr) -> io::Result<Endpoint> {
        let port = 40_000 + self.next_port.fetch_add(1, Ordering::Relaxed);
        self.endpoint_at(([10, 0, 0, 1], port).into())
    }

    fn tcp(&self, _remote: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Socket>>> {
        Self::refused()
    }

    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let known = self.names.lock().unwrap().get(name).copied();
        Box::pin(async move {
            match known {
                Some(address) => Ok(vec![address]),
                None => name.parse().map(|address| vec![address]).map_err(io::Error::other),
            }
        })
    }
}

impl SimNet {
    /// Nobody listens on TCP here.
    fn refused() -> BoxFuture<'static, io::Result<Box<dyn Socket>>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

impl fmt::Debug for SimNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimNet")
    }
}

struct SimSocket {
    net: SimNet,
    address: SocketAddr,
    timer: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket({})", self.address)
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let wires = &mut *self.net.wires();
        wires.sent += 1;
        if wires.cut {
            return Ok(());
        }
        let packet = (Instant::now() + DELAY, wires.sent, self.address, transmit.contents.to_vec());
        if let Some(inbox) = wires.inboxes.get_mut(&transmit.destination) {
            inbox.flying.push(Reverse(packet));
            if let Some(reader) = inbox.reader.take() {
                reader.wake();
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let next = {
                let wires = &mut *self.net.wires();
                let inbox = wires.inboxes.get_mut(&self.address).unwrap();
                inbox.reader = Some(cx.waker().clone());
                match inbox.flying.peek() {
                    Some(Reverse((at, ..))) if *at <= Instant::now() => {
                        let Reverse((_, _, addr, bytes)) = inbox.flying.pop().unwrap();
                        let len = bytes.len();
                        buffers[0][..len].copy_from_slice(&bytes);
                        meta[0] = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
                        return Poll::Ready(Ok(1));
                    }
                    Some(Reverse((at, ..))) => *at,
                    None => return Poll::Pending,
                }
            };
            let mut timer = Box::pin(sleep_until(next));
            if Future::poll(timer.as_mut(), cx).is_pending() {
                *self.timer.lock().unwrap() = Some(timer);
                return Poll::Pending;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
