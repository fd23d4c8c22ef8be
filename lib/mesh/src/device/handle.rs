//! What the rest of the device holds of the tunnel: its status, its events, and work streams.

use std::sync::Arc;
use std::time::Duration;

use synesis_proto::mesh::v1;
use tokio::sync::{Notify, broadcast, oneshot, watch};
use tokio::time::timeout;

use super::link::{LinkHandle, Order};
use super::{Timing, TunnelEvent, TunnelStatus};
use crate::frame::FrameError;
use crate::identity::DeviceIdentity;
use crate::stream::{Busy, RawStream, StreamHeader, WorkStream};

/// How long to wait for another stream to end, when as many as allowed are open.
const OPEN_WAIT: Duration = Duration::from_secs(5);

/// What handles and driver share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) status: watch::Sender<TunnelStatus>,
    pub(super) link: watch::Sender<Option<LinkHandle>>,
    pub(super) identity: watch::Sender<Option<Arc<DeviceIdentity>>>,
    pub(super) renewed: watch::Sender<Option<Arc<DeviceIdentity>>>,
    pub(super) redial: Notify,
    pub(super) events: broadcast::Sender<TunnelEvent>,
    pub(super) timing: Timing,
}

/// Why no work stream could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The tunnel is not up; the status says why.
    #[error("the tunnel is {}", .0.state.as_str())]
    Offline(Box<TunnelStatus>),
    /// As many streams as allowed are open.
    #[error("too many requests are open on the tunnel")]
    Busy,
    /// The connection failed while the stream was opened.
    #[error("opening a stream failed")]
    Stream(#[source] FrameError),
}

/// Why a ping has no result.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    /// The tunnel is not up; the status says why.
    #[error("the tunnel is {}", .0.state.as_str())]
    Offline(Box<TunnelStatus>),
    /// The tunnel went down while the ping was under way.
    #[error("the tunnel went down before the gateway answered")]
    Lost,
    /// No answer in time; the tunnel itself draws its own conclusion.
    #[error("the gateway did not answer the ping in time")]
    TimedOut,
}

/// A handle on the tunnel. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TunnelHandle {
    pub(super) shared: Arc<Shared>,
}

impl TunnelHandle {
    /// The tunnel's status: the current one, and every change.
    pub fn status(&self) -> watch::Receiver<TunnelStatus> {
        self.shared.status.subscribe()
    }

    /// News from now on.
    pub fn events(&self) -> broadcast::Receiver<TunnelEvent> {
        self.shared.events.subscribe()
    }

    /// The identity in use.
    pub fn identity(&self) -> Option<Arc<DeviceIdentity>> {
        self.shared.identity.borrow().clone()
    }

    /// Opens a stream for a piece of work and sends its header. Dropping the stream cancels the work.
    ///
    /// # Errors
    /// At once when the tunnel is not up; within five seconds when too many streams are open.
    pub async fn open(&self, header: StreamHeader) -> Result<WorkStream, OpenError> {
        let link = self.shared.link.borrow().clone();
        let link = link.ok_or_else(|| OpenError::Offline(self.snapshot()))?;
        let busy = Busy::new(link.busy.clone());
        let lost = |error| OpenError::Stream(FrameError::ConnectionLost(error));
        let opened = timeout(OPEN_WAIT, link.connection.open()).await.map_err(|_| OpenError::Busy)?;
        let mut raw = RawStream::new(opened.map_err(lost)?, Some(busy));
        raw.tx.write(&v1::StreamHeader::from(&header)).await.map_err(OpenError::Stream)?;
        Ok(raw.into_work(header))
    }

    /// Sends a heartbeat now; the time until exactly its ack came back.
    ///
    /// # Errors
    /// When the tunnel is not up or goes down, or when no answer comes for as long as it takes to give a path up.
    pub async fn ping(&self) -> Result<Duration, PingError> {
        let link = self.shared.link.borrow().clone();
        let link = link.ok_or_else(|| PingError::Offline(self.snapshot()))?;
        let (answer, answered) = oneshot::channel();
        let ask = async {
            link.orders.send(Order::Ping(answer)).await.ok()?;
            answered.await.ok()
        };
        match timeout(self.shared.timing.ping_patience(), ask).await {
            Ok(Some(rtt)) => Ok(rtt),
            Ok(None) => Err(PingError::Lost),
            Err(_) => Err(PingError::TimedOut),
        }
    }

    /// Dials a new connection now, whatever the state; the next wait starts from the shortest again.
    pub fn reconnect(&self) {
        self.shared.redial.notify_one();
    }

    /// Identities that the gateway has renewed: another certificate, or other CAs to trust, for the same device. They are
    /// not in use: whoever keeps the identity stores the newest, and then sets it with [`Self::set_identity`].
    pub fn renewals(&self) -> watch::Receiver<Option<Arc<DeviceIdentity>>> {
        self.shared.renewed.subscribe()
    }

    /// Uses another identity from now on, or none. The current connection, if any, is closed; if it is the same device
    /// renewed, the tunnel moves to another connection, and answers that are running finish on this one.
    pub fn set_identity(&self, identity: Option<Arc<DeviceIdentity>>) {
        self.shared.identity.send_replace(identity);
    }

    fn snapshot(&self) -> Box<TunnelStatus> {
        Box::new(self.shared.status.borrow().clone())
    }
}
