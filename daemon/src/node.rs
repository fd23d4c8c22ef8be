//! What this device is doing, as one snapshot put together from everybody's newest value.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use synesis_mesh::carrier::Carrier;
use synesis_supervise::{Health, HealthBoard, Overall};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::adapters::{AdaptersHandle, Snapshot as Adapters};
use crate::model::{ModelHandle, ModelStatus};

/// How the tunnel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelState {
    /// This device has no identity.
    Unenrolled,
    /// It has one, and is not trying to connect.
    Offline,
    /// Dialling.
    Connecting,
    /// Connected.
    Up,
    /// The gateway asked to move.
    Draining,
    /// Waiting for the next try.
    Backoff,
    /// The gateway took the identity back.
    Revoked,
}

impl TunnelState {
    /// The name in the local API.
    pub fn as_str(self) -> &'static str {
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
}

/// The tunnel as users see it.
#[derive(Debug, Clone, PartialEq)]
pub struct TunnelView {
    /// How it is.
    pub state: TunnelState,
    /// `host:port` of the current or last endpoint; may be empty.
    pub gateway: String,
    /// What carries it; only while up.
    pub transport: Option<Carrier>,
    /// From the last acknowledged heartbeat.
    pub rtt: Option<Duration>,
    /// When it came up; only while up.
    pub connected_since: Option<SystemTime>,
    /// Times the path of this connection was bound anew.
    pub rebinds: u32,
    /// Why it is not up, or not as it should be, or soon will not be.
    pub reason: String,
    /// What to do.
    pub next_step: String,
    /// When it is tried again; only in backoff.
    pub retry_at: Option<Instant>,
    /// When this device's certificate ends.
    pub certificate_until: Option<SystemTime>,
    /// What the gateway's clock is ahead of ours; only while up.
    pub clock_offset_ms: Option<i64>,
}

impl TunnelView {
    /// A device that was never enrolled.
    pub fn unenrolled() -> Self {
        Self {
            state: TunnelState::Unenrolled,
            gateway: String::new(),
            transport: None,
            rtt: None,
            connected_since: None,
            rebinds: 0,
            reason: "this device is not enrolled".to_owned(),
            next_step: "enrol it with: synctl enroll --gateway HOST:PORT --ca FILE --token-file FILE"
                .to_owned(),
            retry_at: None,
            certificate_until: None,
            clock_offset_ms: None,
        }
    }
}

/// What the escalation half of the daemon publishes about itself.
#[derive(Debug, Clone)]
pub struct Uplink {
    /// The tunnel.
    pub tunnel: watch::Receiver<TunnelView>,
    /// This device's id, once enrolled.
    pub device_id: watch::Receiver<Option<String>>,
    /// Escalations whose receipt has not arrived yet.
    pub pending_receipts: watch::Receiver<u32>,
}

impl Uplink {
    /// A device without a cloud side.
    pub fn unenrolled() -> Self {
        Self {
            tunnel: watch::channel(TunnelView::unenrolled()).1,
            device_id: watch::channel(None).1,
            pending_receipts: watch::channel(0).1,
        }
    }
}

/// Everything about this device at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeStatus {
    /// The sum of it.
    pub state: Overall,
    /// One line per subsystem, in start order.
    pub subsystems: Vec<Health>,
    /// The tunnel.
    pub tunnel: TunnelView,
    /// The model.
    pub model: Arc<ModelStatus>,
    /// The adapters.
    pub adapters: Arc<Adapters>,
    /// The active adapter exists but could not be brought back: the base model answers.
    pub adapter_lost: bool,
    /// This device's id, once enrolled.
    pub device_id: Option<String>,
    /// Escalations without a receipt yet.
    pub pending_receipts: u32,
    /// When the daemon started.
    pub started_at: SystemTime,
}

/// A view that can be read at any time and waited on. Clones watch on their own.
#[derive(Debug, Clone)]
pub struct NodeView {
    board: watch::Receiver<Vec<Health>>,
    model: watch::Receiver<Arc<ModelStatus>>,
    adapters: watch::Receiver<Arc<Adapters>>,
    uplink: Uplink,
    adapters_handle: AdaptersHandle,
    stopping: CancellationToken,
    started_at: SystemTime,
}

impl NodeView {
    /// The view over these parts.
    pub fn new(
        board: &HealthBoard,
        model: &ModelHandle,
        adapters: &AdaptersHandle,
        uplink: Uplink,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            board: board.subscribe(),
            model: model.status(),
            adapters: adapters.snapshot(),
            uplink,
            adapters_handle: adapters.clone(),
            stopping,
            started_at: SystemTime::now(),
        }
    }

    /// The device as it is now. The board is read last, because the parts write it first: a state that is seen here
    /// has its reason beside it.
    pub fn snapshot(&self) -> NodeStatus {
        let model = Arc::clone(&self.model.borrow());
        let tunnel = self.uplink.tunnel.borrow().clone();
        let subsystems = self.board.borrow().clone();
        let adapters = Arc::clone(&self.adapters.borrow());
        NodeStatus {
            state: if self.stopping.is_cancelled() { Overall::Stopping } else { Overall::of(&subsystems) },
            subsystems,
            tunnel,
            model,
            adapter_lost: adapters.active().is_some_and(|adapter| self.adapters_handle.is_lost(&adapter.id)),
            adapters,
            device_id: self.uplink.device_id.borrow().clone(),
            pending_receipts: *self.uplink.pending_receipts.borrow(),
            started_at: self.started_at,
        }
    }

    /// Resolves when something changed since the last call. Cancel safe.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = next(&mut self.board) => {}
            () = next(&mut self.model) => {}
            () = next(&mut self.adapters) => {}
            () = next(&mut self.uplink.tunnel) => {}
            () = next(&mut self.uplink.device_id) => {}
            () = next(&mut self.uplink.pending_receipts) => {}
        }
    }

    /// Cancelled when the daemon begins to stop.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }
}

/// The next change; never, once nobody can change it any more.
async fn next<T>(value: &mut watch::Receiver<T>) {
    if value.changed().await.is_err() {
        pending::<()>().await;
    }
}
