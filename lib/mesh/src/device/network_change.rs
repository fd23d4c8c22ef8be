//! Notices that this machine's network is another one now: the kernel's reports, gathered for a moment and compared with
//! what they are about. Most reports are about something else (a container came, a lease was renewed), and a tunnel
//! that moves each time would never rest.

use std::fmt::Debug;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::dial::Network;
use crate::transport;

/// A change comes as a burst of reports; the tunnel acts once, when they have been quiet for this long,
const QUIET: Duration = Duration::from_millis(300);
/// or after this long, if they never are.
const BURST: Duration = Duration::from_secs(2);
/// Two addresses nobody has (RFC 5737, RFC 3849): packets to them would take the default routes. None is sent.
const ANYWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9),
];

/// What the kernel reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A default route came or went: even from the same address, packets take another way.
    DefaultRoute,
    /// A link, an address or another route.
    Other,
}

/// Where reports come from.
pub(super) trait Changes: Send + Debug {
    /// The next report.
    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Change>>;
}

/// The address this machine would speak from: to anywhere over IPv4, over IPv6, and to its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outlook([Option<IpAddr>; 3]);

impl From<[Option<IpAddr>; 3]> for Outlook {
    fn from(sources: [Option<IpAddr>; 3]) -> Self {
        Self(sources)
    }
}

impl Outlook {
    /// Asks the kernel's routing tables; sends nothing.
    pub(super) fn now(gateway: Option<SocketAddr>) -> Self {
        let [v4, v6] = ANYWHERE;
        Self([source(v4), source(v6), gateway.and_then(source)])
    }
}

fn source(to: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(transport::any_local(to)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Tells `changed` of each change that matters to a tunnel, until nobody listens. `gateway` is where the tunnel goes, as
/// far as that is known.
pub(super) async fn watch(
    network: Arc<dyn Network>,
    gateway: watch::Receiver<Option<SocketAddr>>,
    changed: mpsc::Sender<()>,
) {
    let mut changes = match network.changes() {
        Ok(changes) => changes,
        Err(error) => {
            let next_step = "allow AF_NETLINK to the service";
            tracing::warn!(%error, next_step, "changes of the network are not reported; heartbeats still find a dead path");
            return;
        }
    };
    let known = || *gateway.borrow();
    let mut last = (known(), network.outlook(known()));
    loop {
        let default_route = match burst(&mut *changes).await {
            Ok(default_route) => default_route,
            Err(error) => {
                tracing::warn!(%error, "changes of the network are no longer reported; heartbeats still find a dead path");
                return;
            }
        };
        let gateway = known();
        if gateway != last.0 {
            // Seen from where the last connection went, not from where one went before.
            last = (gateway, Outlook([last.1.0[0], last.1.0[1], network.outlook(gateway).0[2]]));
        }
        let now = network.outlook(gateway);
        let differs = now != last.1;
        last.1 = now;
        tracing::debug!(default_route, differs, "the network changed");
        if (default_route || differs) && changed.send(()).await.is_err() {
            return;
        }
    }
}

/// Waits for a report and the end of the burst it begins; whether a default route was among it.
async fn burst(changes: &mut dyn Changes) -> io::Result<bool> {
    let mut default_route = poll_fn(|cx| changes.poll_change(cx)).await? == Change::DefaultRoute;
    let end = Instant::now() + BURST;
    loop {
        let quiet = (Instant::now() + QUIET).min(end);
        match timeout_at(quiet, poll_fn(|cx| changes.poll_change(cx))).await {
            Ok(change) => default_route |= change? == Change::DefaultRoute,
            Err(_) => return Ok(default_route),
        }
        if Instant::now() >= end {
            return Ok(default_route);
        }
    }
}
