//! The simulated network's sockets, as quinn wants them.

use std::cmp::Reverse;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{SimNet, is_device};

pub(super) struct SimSocket {
    net: SimNet,
    address: SocketAddr,
    owner: u64,
    timer: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl SimSocket {
    pub(super) fn new(net: SimNet, address: SocketAddr, owner: u64) -> Self {
        Self { net, address, owner, timer: Mutex::new(None) }
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket({})", self.address)
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let wires = &mut *self.net.wires();
        if wires.inboxes.get(&self.address).is_some_and(|inbox| inbox.owner == self.owner) {
            wires.inboxes.remove(&self.address);
        }
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let wires = &mut *self.net.wires();
        if is_device(self.address) && std::mem::take(&mut wires.panics) {
            panic!("a bug in QUIC, as the test asked for");
        }
        wires.send(self.owner, self.address, transmit.destination, transmit.contents);
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
                // Another socket has taken over the address: nothing ever comes here again.
                let inbox = wires.inboxes.get_mut(&self.address).filter(|inbox| inbox.owner == self.owner);
                let Some(inbox) = inbox else { return Poll::Pending };
                inbox.reader = Some(cx.waker().clone());
                match inbox.flying.peek() {
                    Some(Reverse((at, ..))) if *at <= Instant::now() => {
                        let Some(Reverse((_, _, addr, bytes))) = inbox.flying.pop() else { continue };
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
