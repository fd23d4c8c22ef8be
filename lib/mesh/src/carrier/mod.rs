//! What a tunnel runs on: QUIC, or many streams on one TLS connection over TCP where UDP does not get through. One
//! connection type and one pair of stream halves for both, with the same meaning of end, reset, stop and close.

mod contain;
mod halves;
mod lost;
mod mux;

use std::net::SocketAddr;
use std::sync::Arc;

use contain::{Contained, contained, contained_async};
pub(crate) use halves::{RecvStream, SendStream, StreamFault};
pub use lost::ConnectionLost;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use mux::Record;
pub(crate) use mux::{Leash, Muxed, Side, Socket};

use crate::kind::ErrorCode;

/// What carries a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP, with yamux.
    Tcp,
}

impl Carrier {
    /// The name on the local API and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// A connection between a device and a gateway, whatever carries it. Clones share it; when the last one and the last
/// of its streams is gone, it closes.
#[derive(Debug, Clone)]
pub(crate) enum Connection {
    Quic {
        connection: Arc<Contained<quinn::Connection>>,
        /// The device's own endpoint; a gateway's serves all of its connections.
        endpoint: Option<quinn::Endpoint>,
    },
    Tcp(Muxed),
}

impl From<quinn::Connection> for Connection {
    fn from(connection: quinn::Connection) -> Self {
        Self::over_quic(connection, None)
    }
}

impl Connection {
    pub(crate) fn over_quic(connection: quinn::Connection, endpoint: Option<quinn::Endpoint>) -> Self {
        Self::Quic { connection: Arc::new(connection.into()), endpoint }
    }

    pub(crate) fn carrier(&self) -> Carrier {
        match self {
            Self::Quic { .. } => Carrier::Quic,
            Self::Tcp(_) => Carrier::Tcp,
        }
    }

    /// The device's own QUIC endpoint, to move it to another socket.
    pub(crate) fn endpoint(&self) -> Option<&quinn::Endpoint> {
        match self {
            Self::Quic { endpoint, .. } => endpoint.as_ref(),
            Self::Tcp(_) => None,
        }
    }

    /// Opens a stream; waits while as many as allowed are open. The other end hears of it with the first bytes.
    pub(crate) async fn open(&self) -> Result<(SendStream, RecvStream), ConnectionLost> {
        match self {
            Self::Quic { connection, .. } => {
                let (send, recv) = contained_async(connection.open_bi()).await?;
                Ok((SendStream::Quic(send.into()), RecvStream::Quic(recv.into())))
            }
            Self::Tcp(muxed) => muxed.open().await,
        }
    }

    /// The next stream that the other end opened. Cancel safe.
    pub(crate) async fn accept(&self) -> Result<(SendStream, RecvStream), ConnectionLost> {
        match self {
            Self::Quic { connection, .. } => {
                let (send, recv) = contained_async(connection.accept_bi()).await?;
                Ok((SendStream::Quic(send.into()), RecvStream::Quic(recv.into())))
            }
            Self::Tcp(muxed) => muxed.accept().await,
        }
    }

    /// Ends the connection and everything on it, and tells the other end why. Does nothing when it has ended.
    pub(crate) fn close(&self, code: ErrorCode, reason: &str) {
        self.close_with(code.number(), reason);
    }

    /// Ends the connection as an end that simply leaves.
    pub(crate) fn leave(&self, reason: &str) {
        self.close_with(crate::kind::CLOSE_NORMAL, reason);
    }

    fn close_with(&self, code: u32, reason: &str) {
        match self {
            Self::Quic { connection, .. } => {
                let _ = contained(|| connection.close(code.into(), reason.as_bytes()));
            }
            Self::Tcp(muxed) => muxed.close(code, reason),
        }
    }

    /// Resolves when the connection has ended, with the cause.
    pub(crate) async fn closed(&self) -> ConnectionLost {
        match self {
            Self::Quic { connection, .. } => {
                let closed = async { Err::<(), _>(connection.closed().await) };
                contained_async(closed).await.err().unwrap_or(ConnectionLost::Local)
            }
            Self::Tcp(muxed) => muxed.closed().await,
        }
    }

    /// After the end: resolves when the other end had time to hear of it.
    pub(crate) async fn wait_idle(&self) {
        match self {
            Self::Quic { .. } => {
                if let Some(endpoint) = self.endpoint() {
                    endpoint.wait_idle().await;
                }
            }
            Self::Tcp(muxed) => muxed.wait_idle().await,
        }
    }

    /// Bytes sent and received so far, by the socket's count.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        match self {
            Self::Quic { connection, .. } => {
                let stats = connection.stats();
                (stats.udp_tx.bytes, stats.udp_rx.bytes)
            }
            Self::Tcp(muxed) => muxed.traffic(),
        }
    }

    /// Where the other end is; over QUIC it may move.
    pub(crate) fn remote(&self) -> SocketAddr {
        match self {
            Self::Quic { connection, .. } => connection.remote_address(),
            Self::Tcp(muxed) => muxed.remote(),
        }
    }
}
