//! The device's end: [`enroll`] once, then a [`TunnelDriver`] that keeps the tunnel up for as long as it runs, and
//! [`TunnelHandle`]s for everybody who uses it or wants to know how it is.

mod backoff;
mod dial;
mod driver;
mod enroll;
mod failure;
mod fallback;
mod handle;
mod link;
mod liveness;
mod netlink;
mod network_change;
mod proxy;
mod race;
mod renewal;
mod seek;
mod state;
mod status;

pub use backoff::Backoff;
pub use driver::{Tunnel, TunnelDriver};
pub use enroll::{EnrollError, enroll, enroll_over};
pub use fallback::{FALLBACK_PORT, Fallback, Proxy};
pub use handle::{OpenError, PingError, TunnelHandle};
pub use status::{TunnelEvent, TunnelState, TunnelStatus};

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    pub(crate) use super::enroll::identity;
    pub(crate) use super::proxy::answer as proxy_answer;
    pub(crate) use super::renewal::with_certificate;
}

use std::time::Duration;

use failure::{Failure, Verdict};
use synesis_proto::mesh::v1;
use tokio::sync::watch;

use crate::identity::{DeviceIdentity, WallClock};

/// What a tunnel is made with.
#[derive(Debug, Clone)]
pub struct TunnelConfig {
    /// `name/version` of the program, for the gateway's records.
    pub agent: String,
    /// The newest vitals; they ride on heartbeats.
    pub vitals: watch::Receiver<Option<v1::Vitals>>,
    /// Gateways to dial, `host:port`, raced, the better ones first. Empty: the one the device enrolled at.
    pub endpoints: Vec<String>,
    /// What to do where UDP does not get through.
    pub fallback: Fallback,
    /// Timeouts and intervals.
    pub timing: Timing,
    /// What certificates are judged by; it may be wrong.
    pub clock: WallClock,
}

impl TunnelConfig {
    /// With the standard timing and the enrolled gateway.
    pub fn new(agent: impl Into<String>, vitals: watch::Receiver<Option<v1::Vitals>>) -> Self {
        Self {
            agent: agent.into(),
            vitals,
            endpoints: Vec::new(),
            fallback: Fallback::default(),
            timing: Timing::default(),
            clock: WallClock::system(),
        }
    }

    fn gateways<'a>(&'a self, identity: &'a DeviceIdentity) -> &'a [String] {
        if self.endpoints.is_empty() { std::slice::from_ref(&identity.gateway) } else { &self.endpoints }
    }
}

/// When the tunnel does what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// One address gets this long to finish its handshake.
    pub connect_timeout: Duration,
    /// QUIC is tried this long before TCP is; once UDP was found dead several times, not at all.
    pub tcp_after: Duration,
    /// A tunnel over TCP tries QUIC again about this often.
    pub seek_every: Duration,
    /// The gateway gets this long to answer the hello.
    pub hello_timeout: Duration,
    /// Between heartbeats; `None`: as the gateway asks.
    pub heartbeat: Option<Duration>,
    /// Between heartbeats while work is running, if that is less: somebody waits, so a dead path has to show soon.
    pub working_heartbeat: Duration,
    /// A heartbeat without an ack for this long, or four round trips if that is longer, has the path bound anew.
    pub rebind_after: Duration,
    /// Without an ack for this long after that, or four round trips if that is longer, the connection is lost.
    pub lost_after: Duration,
    /// How long to wait before dialling again.
    pub backoff: Backoff,
    /// A tunnel that was up this long starts with the shortest wait when it is lost.
    pub stable_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            tcp_after: Duration::from_millis(1500),
            seek_every: Duration::from_secs(20),
            hello_timeout: Duration::from_secs(10),
            heartbeat: None,
            // These three, the first wait, the head start of QUIC before TCP and the handshakes have to add up to
            // less than ten seconds (docs/adr/0016).
            working_heartbeat: Duration::from_millis(1_500),
            rebind_after: Duration::from_secs(3),
            lost_after: Duration::from_secs(2),
            backoff: Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) },
            stable_after: Duration::from_secs(60),
        }
    }
}

impl Timing {
    /// A ping waits this long: twice what it takes to give up a path that is fast when it is alive.
    fn ping_patience(&self) -> Duration {
        2 * (self.rebind_after + self.lost_after)
    }
}

#[cfg(test)]
mod path_tests;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod sim_tests;
