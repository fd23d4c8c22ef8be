//! Many streams on one reliable connection: yamux moves the bytes, [`record`] gives ends, resets and closes the codes
//! they have over QUIC. The handle and the streams of a connection share one task; when all of them are gone, the task
//! closes the connection.

mod driver;
mod hangup;
mod pipe;
mod pump;
mod record;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use driver::{Driver, Opening};
use hangup::Traffic;
use pipe::Pipe;
pub(crate) use pipe::{MuxRecv, MuxSend};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use record::Record;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{ConnectionLost, RecvStream, SendStream};
use crate::kind::{CLOSE_NORMAL, MAX_WORK_STREAMS};

/// Streams that a device may have open, the control stream among them; as many as over QUIC.
const OPEN: usize = 1 + MAX_WORK_STREAMS as usize;
/// Streams that yamux may know of: those open, as many that are just over, and a close. More are refused, and a peer
/// that goes on opening them loses the connection. Each may hold 256 KiB.
const STREAMS: usize = 2 * OPEN;

/// A connection that streams are put on.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for T {}

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Opens streams.
    Device,
    /// Accepts them.
    Gateway,
}

/// A multiplexed connection. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Muxed(Arc<Handle>);

/// What handles and streams hold.
#[derive(Debug)]
pub(super) struct Handle {
    shared: Arc<Shared>,
    remote: SocketAddr,
    traffic: Arc<Traffic>,
    permits: Arc<Semaphore>,
    openings: mpsc::Sender<Opening>,
    accepted: Mutex<mpsc::Receiver<Arc<Pipe>>>,
    task: JoinSet<()>,
}

/// What the task holds, too.
#[derive(Debug)]
struct Shared {
    lost: watch::Sender<Option<ConnectionLost>>,
    close: watch::Sender<Option<(u32, String)>>,
    gone: CancellationToken,
}

impl Muxed {
    /// Must be called inside a tokio runtime.
    pub(crate) fn start(socket: impl Socket, side: Side, remote: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            lost: watch::Sender::new(None),
            close: watch::Sender::new(None),
            gone: CancellationToken::new(),
        });
        let (openings, openings_out) = mpsc::channel(OPEN);
        let (accepted_in, mut accepted) = mpsc::channel(STREAMS);
        if side == Side::Device {
            // A gateway opens no streams.
            accepted.close();
        }
        let traffic = Arc::new(Traffic::default());
        let driver = Driver::new(socket, side, openings_out, accepted_in, traffic.clone());
        let mut task = JoinSet::new();
        task.spawn(driver.run(shared.clone()));
        let (permits, accepted) = (Arc::new(Semaphore::new(OPEN)), Mutex::new(accepted));
        Self(Arc::new(Handle { shared, remote, traffic, permits, openings, accepted, task }))
    }

    pub(crate) async fn open(&self) -> Result<(SendStream, RecvStream), ConnectionLost> {
        let ask = async {
            // Never closed.
            let permit = self.0.permits.clone().acquire_owned().await.ok()?;
            let (answer, answered) = oneshot::channel();
            self.0.openings.send(Opening { permit, answer }).await.ok()?;
            answered.await.ok()
        };
        tokio::select! {
            biased;
            cause = self.closed() => Err(cause),
            pipe = ask => match pipe {
                Some(pipe) => Ok(self.halves(pipe)),
                None => Err(self.0.cause()),
            },
        }
    }

    pub(crate) async fn accept(&self) -> Result<(SendStream, RecvStream), ConnectionLost> {
        let pipe = self.0.accepted.lock().await.recv().await;
        pipe.map(|pipe| self.halves(pipe)).ok_or_else(|| self.0.cause())
    }

    fn halves(&self, pipe: Arc<Pipe>) -> (SendStream, RecvStream) {
        let (send, recv) = pipe::halves(pipe, self.0.clone());
        (SendStream::Tcp(send), RecvStream::Tcp(recv))
    }

    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.0.shared.close(code, reason);
    }

    pub(crate) async fn closed(&self) -> ConnectionLost {
        let mut lost = self.0.shared.lost.subscribe();
        match lost.wait_for(Option::is_some).await {
            Ok(cause) => cause.clone().unwrap_or(ConnectionLost::Local),
            // The sender lives as long as this handle.
            Err(_) => ConnectionLost::Local,
        }
    }

    pub(crate) async fn wait_idle(&self) {
        self.0.shared.gone.cancelled().await;
    }

    pub(crate) fn leash(&self) -> Leash {
        Leash(self.0.shared.clone())
    }

    pub(crate) fn traffic(&self) -> (u64, u64) {
        let Traffic { sent, received } = &*self.0.traffic;
        (sent.load(Ordering::Relaxed), received.load(Ordering::Relaxed))
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.0.remote
    }
}

/// What ends a connection and waits for its end, without keeping it.
#[derive(Debug, Clone)]
pub(crate) struct Leash(Arc<Shared>);

impl Leash {
    pub(crate) fn close(&self, code: u32, reason: &str) {
        self.0.close(code, reason);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.0.gone.is_cancelled()
    }

    pub(crate) async fn gone(&self) {
        self.0.gone.cancelled().await;
    }
}

impl Handle {
    fn cause(&self) -> ConnectionLost {
        self.shared.lost.borrow().clone().unwrap_or(ConnectionLost::Local)
    }
}

impl Drop for Handle {
    /// The task outlives the last handle for as long as its goodbye takes, which is bounded.
    fn drop(&mut self) {
        self.shared.close(CLOSE_NORMAL, "");
        self.task.detach_all();
    }
}

impl Shared {
    fn lose(&self, cause: ConnectionLost) {
        self.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            if first {
                *lost = Some(cause);
            }
            first
        });
    }

    fn close(&self, code: u32, reason: &str) {
        self.lose(ConnectionLost::Local);
        self.close.send_if_modified(|close| {
            let first = close.is_none();
            if first {
                *close = Some((code, reason.to_owned()));
            }
            first
        });
    }

    async fn close_asked(&self) -> (u32, String) {
        let mut close = self.close.subscribe();
        let asked = close.wait_for(Option::is_some).await.ok().and_then(|asked| asked.clone());
        match asked {
            Some(asked) => asked,
            // The sender lives as long as this.
            None => std::future::pending().await,
        }
    }
}
