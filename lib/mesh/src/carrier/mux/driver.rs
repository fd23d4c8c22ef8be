//! The one task of a connection: drives yamux and the pumps of its streams, and says goodbye at the end.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::stream::FuturesUnordered;
use futures_util::{AsyncWrite, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::hangup::{Hangup, Traffic};
use super::pipe::Pipe;
use super::pump::{Pump, Pumped};
use super::record::Record;
use super::{STREAMS, Shared, Side, Socket};
use crate::carrier::ConnectionLost;

/// A closing end waits this long for the other to hear of it.
const FAREWELL: Duration = Duration::from_secs(2);
/// Streams of the other end under way. The rest of [`STREAMS`] is for a close, and for those just over.
const MOST_ACCEPTED: usize = STREAMS - 2;
/// Streams too many, until the connection is given up.
const MOST_REFUSED: u32 = 64;
/// The sum of the streams' windows, 256 KiB each; so none of them may grow.
const WINDOWS: usize = STREAMS * yamux::DEFAULT_CREDIT as usize;

/// Somebody wants a stream.
pub(super) struct Opening {
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) answer: oneshot::Sender<Arc<Pipe>>,
}

type Yamux<T> = yamux::Connection<Compat<Hangup<T>>>;

pub(super) struct Driver<T> {
    yamux: Yamux<T>,
    pumps: FuturesUnordered<Pump>,
    openings: mpsc::Receiver<Opening>,
    next: Option<Opening>,
    accepted: mpsc::Sender<Arc<Pipe>>,
    /// Streams too many, so far.
    refused: u32,
}

impl<T: Socket> Driver<T> {
    pub(super) fn new(
        socket: T,
        side: Side,
        openings: mpsc::Receiver<Opening>,
        accepted: mpsc::Sender<Arc<Pipe>>,
        traffic: Arc<Traffic>,
    ) -> Self {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS).set_max_connection_receive_window(Some(WINDOWS));
        let mode = match side {
            Side::Device => yamux::Mode::Client,
            Side::Gateway => yamux::Mode::Server,
        };
        let yamux = yamux::Connection::new(Hangup::new(socket, traffic).compat(), config, mode);
        Self { yamux, pumps: FuturesUnordered::new(), openings, next: None, accepted, refused: 0 }
    }

    /// Until the other end closes, the socket fails, or this end has a reason to close.
    pub(super) async fn run(mut self, shared: Arc<Shared>) {
        // Dropped last: however this ends, nobody waits for a connection that is gone.
        let end = End(shared);
        let close = tokio::select! {
            biased;
            close = end.0.close_asked() => Some(close),
            cause = poll_fn(|cx| self.poll(cx)) => {
                tracing::debug!(%cause, "connection over TCP ended");
                end.0.lose(cause);
                None
            }
        };
        let Self { mut yamux, pumps, openings, next, accepted, refused: _ } = self;
        // Whoever uses a stream, or waits for one, hears of the end.
        drop((pumps, openings, next, accepted));
        if let Some((code, reason)) = close {
            // Who does not take it in time notices the end of the socket.
            let _ = timeout(FAREWELL, farewell(&mut yamux, code, reason)).await;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionLost> {
        loop {
            if let Poll::Ready(Err(error)) = self.open(cx) {
                return Poll::Ready(error.into());
            }
            while let Poll::Ready(Some(pumped)) = self.pumps.poll_next_unpin(cx) {
                match pumped {
                    Pumped::Done => {}
                    Pumped::Closed { code, reason } => {
                        return Poll::Ready(ConnectionLost::Closed { code: code.into(), reason });
                    }
                }
            }
            match self.yamux.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) if self.pumps.len() < MOST_ACCEPTED => {
                    self.pumps.push(Pump::accepted(stream, self.accepted.clone()));
                }
                // Dropped, it is reset. A device of ours waits with its next stream until it may have one.
                Poll::Ready(Some(Ok(_))) if self.refused < MOST_REFUSED => self.refused += 1,
                Poll::Ready(Some(Ok(_))) => {
                    let text = "the other end opens more streams than it may";
                    return Poll::Ready(ConnectionLost::Failed(text.to_owned()));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(error.into()),
                Poll::Ready(None) => {
                    let text = "the other end closed the connection without a word";
                    return Poll::Ready(ConnectionLost::Failed(text.to_owned()));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn open(&mut self, cx: &mut Context<'_>) -> Poll<yamux::Result<()>> {
        loop {
            if self.next.is_none() {
                match self.openings.poll_recv(cx) {
                    Poll::Ready(Some(next)) => self.next = Some(next),
                    // Handles close the connection before they are gone.
                    Poll::Ready(None) | Poll::Pending => return Poll::Ready(Ok(())),
                }
            }
            let stream = std::task::ready!(self.yamux.poll_new_outbound(cx))?;
            if let Some(Opening { permit, answer }) = self.next.take() {
                let pipe = Arc::new(Pipe::default());
                // Who asked may have gone; the stream is then dropped, and nobody has heard of it.
                if answer.send(pipe.clone()).is_ok() {
                    self.pumps.push(Pump::opened(stream, pipe, permit));
                }
            }
        }
    }
}

/// Says why, flushes, and closes the socket.
async fn farewell<T: Socket>(yamux: &mut Yamux<T>, code: u32, reason: String) -> yamux::Result<()> {
    let mut stream = poll_fn(|cx| yamux.poll_new_outbound(cx)).await?;
    let mut bytes = BytesMut::new();
    Record::Close(code, reason).encode(&mut bytes);
    // A new stream takes this much at once, and in one frame.
    let written = poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, &bytes)).await;
    if let Err(error) = written {
        return Err(yamux::ConnectionError::Io(error));
    }
    poll_fn(|cx| yamux.poll_close(cx)).await
}

/// Marks the connection as over when the task ends, a panic included.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.lose(ConnectionLost::Failed("the connection's task ended".to_owned()));
        self.0.gone.cancel();
    }
}
