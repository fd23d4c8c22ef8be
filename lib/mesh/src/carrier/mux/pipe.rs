//! One stream, between the halves that use it and the pump that moves its bytes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::Handle;
use crate::carrier::StreamFault;

/// Bytes that a direction holds between its half and the pump.
pub(super) const BUFFER: usize = 64 * 1024;
/// Code of a half that was dropped without a word.
const NO_CODE: u32 = 0;

#[derive(Debug, Default)]
pub(super) struct Pipe {
    inner: Mutex<Inner>,
    /// Nobody reads what is written, or it ended and has left.
    pub(super) stopped: CancellationToken,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) outgoing: BytesMut,
    pub(super) out: Out,
    pub(super) incoming: BytesMut,
    pub(super) inc: In,
    /// What to tell the other end about its direction.
    pub(super) stop: Option<u32>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    pub(super) pump: Option<Waker>,
}

/// The direction that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Out {
    #[default]
    Open,
    /// Ends after what is buffered.
    Finishing,
    /// Ends now.
    Resetting(u32),
    /// The end has left.
    Ended,
    /// The other end does not read it.
    Stopped(u64),
    /// The connection is gone.
    Lost,
}

/// The direction that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum In {
    #[default]
    Open,
    Ended,
    Reset(u64),
    /// This end does not read it.
    Stopped,
    Lost,
}

impl Pipe {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is complete when the lock is let go.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other end does not read any more.
    pub(super) fn other_end_stopped(&self, code: u64) {
        let mut inner = self.lock();
        if matches!(inner.out, Out::Open | Out::Finishing | Out::Resetting(_)) {
            inner.out = Out::Stopped(code);
            inner.outgoing = BytesMut::new();
        }
        inner.wake_writer();
        self.stopped.cancel();
    }

    /// The other direction is over.
    pub(super) fn other_end_ended(&self, how: In) {
        let mut inner = self.lock();
        if inner.inc == In::Open {
            inner.inc = how;
        }
        inner.wake_reader();
    }

    /// The pump is gone, and the connection with it unless both directions were over.
    pub(super) fn abandon(&self) {
        let mut inner = self.lock();
        if inner.inc == In::Open {
            inner.inc = In::Lost;
        }
        if matches!(inner.out, Out::Open | Out::Finishing | Out::Resetting(_)) {
            inner.out = Out::Lost;
        }
        inner.wake_reader();
        inner.wake_writer();
        self.stopped.cancel();
    }
}

impl Inner {
    pub(super) fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    pub(super) fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    fn wake_pump(&mut self) {
        if let Some(pump) = &self.pump {
            pump.wake_by_ref();
        }
    }
}

/// Writing to, or reading from, a direction that this end has ended itself.
fn ended_here() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "this direction of the stream was ended here")
}

/// The sending half.
#[derive(Debug)]
pub(crate) struct MuxSend {
    pipe: Arc<Pipe>,
    connection: Arc<Handle>,
}

impl MuxSend {
    pub(crate) fn finish(&mut self) {
        let mut inner = self.pipe.lock();
        if inner.out == Out::Open {
            inner.out = Out::Finishing;
            inner.wake_pump();
        }
    }

    pub(crate) fn reset(&mut self, code: u32) {
        let mut inner = self.pipe.lock();
        if matches!(inner.out, Out::Open | Out::Finishing) {
            inner.out = Out::Resetting(code);
            inner.outgoing = BytesMut::new();
            inner.wake_pump();
        }
    }

    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        self.pipe.stopped.clone().cancelled_owned()
    }
}

impl AsyncWrite for MuxSend {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.pipe.lock();
        match inner.out {
            Out::Open if data.is_empty() => Poll::Ready(Ok(0)),
            Out::Open => {
                let len = data.len().min(BUFFER.saturating_sub(inner.outgoing.len()));
                if len == 0 {
                    inner.writer = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                inner.outgoing.extend_from_slice(&data[..len]);
                inner.wake_pump();
                Poll::Ready(Ok(len))
            }
            Out::Finishing | Out::Resetting(_) | Out::Ended => Poll::Ready(Err(ended_here())),
            Out::Stopped(code) => Poll::Ready(Err(StreamFault::Ended(code).into())),
            Out::Lost => Poll::Ready(Err(StreamFault::Lost(self.connection.cause()).into())),
        }
    }

    /// What was written leaves by itself.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for MuxSend {
    fn drop(&mut self) {
        if self.pipe.lock().out == Out::Open {
            self.reset(NO_CODE);
        }
    }
}

/// The receiving half.
#[derive(Debug)]
pub(crate) struct MuxRecv {
    pipe: Arc<Pipe>,
    connection: Arc<Handle>,
}

impl MuxRecv {
    pub(crate) fn stop(&mut self, code: u32) {
        let mut inner = self.pipe.lock();
        if inner.inc == In::Open {
            inner.inc = In::Stopped;
            inner.incoming = BytesMut::new();
            inner.stop = Some(code);
            inner.wake_pump();
        }
    }
}

impl AsyncRead for MuxRecv {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.pipe.lock();
        if !inner.incoming.is_empty() {
            let was_full = inner.incoming.len() >= BUFFER;
            let len = buffer.remaining().min(inner.incoming.len());
            buffer.put_slice(&inner.incoming[..len]);
            inner.incoming.advance(len);
            if was_full {
                inner.wake_pump();
            }
            return Poll::Ready(Ok(()));
        }
        match inner.inc {
            In::Open => {
                inner.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            In::Ended => Poll::Ready(Ok(())),
            In::Reset(code) => Poll::Ready(Err(StreamFault::Ended(code).into())),
            In::Stopped => Poll::Ready(Err(ended_here())),
            In::Lost => Poll::Ready(Err(StreamFault::Lost(self.connection.cause()).into())),
        }
    }
}

impl Drop for MuxRecv {
    fn drop(&mut self) {
        self.stop(NO_CODE);
    }
}

/// The two halves of a stream. They keep the connection.
pub(super) fn halves(pipe: Arc<Pipe>, connection: Arc<Handle>) -> (MuxSend, MuxRecv) {
    let send = MuxSend { pipe: pipe.clone(), connection: connection.clone() };
    (send, MuxRecv { pipe, connection })
}
