//! The two directions of a stream, over either carrier.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::ConnectionLost;
use super::contain::{Contained, contained, contained_io};
use super::mux::{MuxRecv, MuxSend};

/// Why a direction of a stream failed. It travels inside an [`io::Error`], as quinn's own errors do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StreamFault {
    /// The other end reset it, or does not read it any more.
    #[error("the other end ended the stream (code {0})")]
    Ended(u64),
    /// The connection under it is gone.
    #[error("the connection was lost")]
    Lost(#[source] ConnectionLost),
}

impl From<StreamFault> for io::Error {
    fn from(fault: StreamFault) -> Self {
        Self::other(fault)
    }
}

impl StreamFault {
    /// What an error of either carrier's stream means; `None` for an error that is not one of theirs.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?;
        if let Some(fault) = inner.downcast_ref::<Self>() {
            return Some(fault.clone());
        }
        if let Some(read) = inner.downcast_ref::<quinn::ReadError>() {
            match read {
                quinn::ReadError::Reset(code) => return Some(Self::Ended(code.into_inner())),
                quinn::ReadError::ConnectionLost(lost) => return Some(Self::Lost(lost.clone().into())),
                _ => {}
            }
        }
        if let Some(write) = inner.downcast_ref::<quinn::WriteError>() {
            match write {
                quinn::WriteError::Stopped(code) => return Some(Self::Ended(code.into_inner())),
                quinn::WriteError::ConnectionLost(lost) => return Some(Self::Lost(lost.clone().into())),
                _ => {}
            }
        }
        None
    }
}

/// The sending direction.
#[derive(Debug)]
pub(crate) enum SendStream {
    Quic(Contained<quinn::SendStream>),
    Tcp(MuxSend),
}

impl SendStream {
    /// Ends the direction after what was written. Once it has ended, one way or the other, this changes nothing.
    pub(crate) fn finish(&mut self) {
        match self {
            // `ClosedStream` means finished or reset before: there is nothing left to end.
            Self::Quic(stream) => {
                let _ = contained(|| stream.finish());
            }
            Self::Tcp(stream) => stream.finish(),
        }
    }

    /// Ends the direction now, with a reason. Once it has ended, this changes nothing.
    pub(crate) fn reset(&mut self, code: u32) {
        match self {
            Self::Quic(stream) => {
                let _ = contained(|| stream.reset(code.into()));
            }
            Self::Tcp(stream) => stream.reset(code),
        }
    }

    /// A hint for QUIC. Over TCP streams take turns, frame by frame, so that no one of them can starve another.
    pub(crate) fn set_priority(&self, priority: i32) {
        if let Self::Quic(stream) = self {
            // Only a closed stream refuses a priority, and then the first write says so.
            let _ = contained(|| stream.set_priority(priority));
        }
    }

    /// Resolves when nobody reads the direction any more, or everything up to its end has left.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let (quic, tcp) = match self {
            Self::Quic(stream) => (Some(stream.stopped()), None),
            Self::Tcp(stream) => (None, Some(stream.stopped())),
        };
        async move {
            if let Some(stopped) = quic {
                // Whatever the cause, nobody reads.
                let _ = stopped.await;
            }
            if let Some(stopped) = tcp {
                stopped.await;
            }
        }
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            // quinn has a `poll_write` of its own, with another error.
            Self::Quic(stream) => contained_io(|| AsyncWrite::poll_write(Pin::new(&mut **stream), cx, data)),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => contained_io(|| Pin::new(&mut **stream).poll_flush(cx)),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => contained_io(|| Pin::new(&mut **stream).poll_shutdown(cx)),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// The receiving direction.
#[derive(Debug)]
pub(crate) enum RecvStream {
    Quic(Contained<quinn::RecvStream>),
    Tcp(MuxRecv),
}

impl RecvStream {
    /// Wants no more, and tells the other end why. Once the direction has ended, this changes nothing.
    pub(crate) fn stop(&mut self, code: u32) {
        match self {
            Self::Quic(stream) => {
                let _ = contained(|| stream.stop(code.into()));
            }
            Self::Tcp(stream) => stream.stop(code),
        }
    }
}

impl AsyncRead for RecvStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Quic(stream) => contained_io(|| AsyncRead::poll_read(Pin::new(&mut **stream), cx, buffer)),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}
