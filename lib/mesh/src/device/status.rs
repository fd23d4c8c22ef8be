//! What everybody may know about the tunnel.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use synesis_proto::mesh::v1;
use tokio::time::Instant;

use crate::carrier::Carrier;

/// The tunnel's state, as shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelState {
    /// No identity.
    Unenrolled,
    /// The tunnel does not run.
    Offline,
    /// Dialling.
    Connecting,
    /// The gateway answers.
    Up,
    /// The gateway answers, and asked this device to move.
    Draining,
    /// Waiting before the next dial.
    Backoff,
    /// The gateway took the identity back.
    Revoked,
}

impl TunnelState {
    /// The name on the local API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unenrolled => "unenrolled",
            Self::Offline => "offline",
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Backoff => "backoff",
            Self::Revoked => "revoked",
        }
    }

    /// Whether work can be opened.
    pub const fn carries_work(self) -> bool {
        matches!(self, Self::Up | Self::Draining)
    }
}

/// One picture of the tunnel.
#[derive(Debug, Clone, PartialEq)]
pub struct TunnelStatus {
    /// Where it is.
    pub state: TunnelState,
    /// `host:port` of the gateway in use, or the last or first one to dial.
    pub gateway: Option<String>,
    /// What carries it, if it is up.
    pub transport: Option<Carrier>,
    /// The round trip of the last acknowledged heartbeat on this connection.
    pub rtt: Option<Duration>,
    /// Since when it is up, if it is.
    pub connected_since: Option<SystemTime>,
    /// Times the path of this connection was bound anew, because it did not answer or the network changed.
    pub rebinds: u32,
    /// Why it is not up, or not as it should be.
    pub reason: Option<String>,
    /// What to do about it.
    pub next_step: Option<String>,
    /// When the next dial starts, in [`TunnelState::Backoff`].
    pub retry_at: Option<Instant>,
    /// What the gateway said when it let this device in, while it is connected.
    pub welcome: Option<Arc<v1::Welcome>>,
    /// What the gateway's clock was ahead of this device's when it let it in, while it is connected. A guess: nothing
    /// that has to be safe may rest on it.
    pub clock_offset_ms: Option<i64>,
    /// Why the certificate could not be renewed, although it is time, while it is connected.
    pub renewal: Option<String>,
}

impl TunnelStatus {
    pub(super) fn new(state: TunnelState) -> Self {
        Self {
            state,
            gateway: None,
            transport: None,
            rtt: None,
            connected_since: None,
            rebinds: 0,
            reason: None,
            next_step: None,
            retry_at: None,
            welcome: None,
            clock_offset_ms: None,
            renewal: None,
        }
    }
}

/// News of the tunnel. A reader that is too slow is told that it missed some; [`TunnelStatus`] is always current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelEvent {
    /// Work can be opened.
    Up,
    /// Work can no longer be opened, and what was open on the connection has failed or will.
    Down,
    /// The gateway suggests to load this adapter.
    Prewarm {
        /// Its name.
        adapter: String,
    },
}
