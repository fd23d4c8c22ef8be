//! The one connection: standard input, which the parent made a socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::sys::socket::{SockType, getsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio_util::sync::DropGuard;
use tonic::transport::server::Connected;

/// Why standard input cannot be served on.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// A terminal, a pipe or a file: somebody started the process by hand.
    #[error("standard input is not a connected socket")]
    NotASocket,
    /// Duplicating or configuring it failed.
    #[error("standard input cannot be used: {0}")]
    Io(#[from] io::Error),
}

/// Standard input as a stream socket.
///
/// # Errors
/// When it is none.
pub fn inherited_stream() -> Result<StdUnixStream, InheritError> {
    let stdin = io::stdin();
    match getsockopt(&stdin, sockopt::SockType) {
        Ok(SockType::Stream) => {}
        _ => return Err(InheritError::NotASocket),
    }
    let stream = StdUnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    stream.peer_addr().map_err(|_| InheritError::NotASocket)?;
    stream.set_nonblocking(true)?;
    tracing::debug!(fd = stdin.as_raw_fd(), "inherited the connection");
    Ok(stream)
}

/// A stream that tells somebody when it is dropped.
pub(super) struct Connection {
    stream: UnixStream,
    _dropped: DropGuard,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, dropped: DropGuard) -> Self {
        Self { stream, _dropped: dropped }
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
