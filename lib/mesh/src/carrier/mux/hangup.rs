//! A socket that closes politely: it says that it is done, and then hears the other end out. To close a TCP socket on
//! unread bytes throws away the last that was sent, which is the reason for the close.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const STEP: usize = 4 * 1024;

/// Bytes that went through a socket.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

pub(super) struct Hangup<T> {
    socket: T,
    shut: bool,
    traffic: Arc<Traffic>,
}

impl<T> Hangup<T> {
    pub(super) fn new(socket: T, traffic: Arc<Traffic>) -> Self {
        Self { socket, shut: false, traffic }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Hangup<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buffer);
        self.traffic.received.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        result
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Hangup<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, data))?;
        self.traffic.sent.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Done when the other end has closed too.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            self.shut = true;
        }
        loop {
            let mut bytes = [0; STEP];
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // Its end, or its reset: either way it has closed.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
