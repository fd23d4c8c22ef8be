//! A path with a long way: every datagram is held for half a round trip, in order, none is lost.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use crate::lines::{Lines, say};

/// The largest datagram of the protocol.
const LARGEST: usize = 65_535;
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// Datagrams under way in one direction: far above what any window here allows, and bounded.
const UNDER_WAY: usize = 65_536;

#[derive(Deserialize)]
pub(crate) struct Settings {
    to: SocketAddr,
    rtt_ms: u64,
}

/// One client at a time: the newest to send is who gets the answers.
pub(crate) async fn run(settings: Settings) {
    let (near, far) = (roomy_socket(), roomy_socket());
    far.connect(settings.to).await.expect("loopback");
    say(&json!({ "address": near.local_addr().expect("bound").to_string() }));
    let hold = Duration::from_millis(settings.rtt_ms) / 2;
    let (mut up, mut down) = (Way::default(), Way::default());
    let (mut buffer, mut other) = (vec![0; LARGEST], vec![0; LARGEST]);
    let mut client = None;
    let mut input = Lines::of_stdin();
    loop {
        tokio::select! {
            line = input.next() => if line.is_none() { return },
            Ok((length, from)) = near.recv_from(&mut buffer) => {
                client = Some(from);
                up.hold(&buffer[..length], hold);
            }
            // An error is the far end's absence, as on a real path.
            read = far.recv(&mut other) => if let Ok(length) = read { down.hold(&other[..length], hold) },
            () = up.due() => for datagram in up.take() {
                let _ = far.send(&datagram).await;
            },
            () = down.due() => for datagram in down.take() {
                if let Some(client) = client {
                    let _ = near.send_to(&datagram, client).await;
                }
            },
        }
    }
}

/// A socket that does not lose a burst.
fn roomy_socket() -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    // The kernel may grant less.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("loopback");
    UdpSocket::from_std(socket.into()).expect("inside a runtime")
}

/// Datagrams under way in one direction, and when each arrives.
#[derive(Default)]
struct Way(VecDeque<(Instant, Vec<u8>)>);

impl Way {
    fn hold(&mut self, datagram: &[u8], hold: Duration) {
        if self.0.len() < UNDER_WAY {
            self.0.push_back((Instant::now() + hold, datagram.to_vec()));
        }
    }

    /// Resolves when the first arrives; never without one.
    async fn due(&self) {
        match self.0.front() {
            Some((at, _)) => sleep_until(*at).await,
            None => std::future::pending().await,
        }
    }

    /// All that have arrived.
    fn take(&mut self) -> Vec<Vec<u8>> {
        let now = Instant::now();
        let arrived = self.0.iter().take_while(|(at, _)| *at <= now).count();
        self.0.drain(..arrived).map(|(_, datagram)| datagram).collect()
    }
}
