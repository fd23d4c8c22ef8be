//! An accepted connection that knows who is at its other end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::Connected;

use super::{Role, Roles};

/// Connections whose role is being looked up at the same time.
const LOOKUPS: usize = 16;
/// A pause after a failed accept (no file descriptors, say), which would otherwise fail again at once.
const AFTER_FAILURE: std::time::Duration = std::time::Duration::from_millis(100);

/// Who is at the other end, in the kernel's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id, when the kernel tells.
    pub pid: Option<i32>,
    /// What follows from it.
    pub role: Role,
}

/// A connection and its caller.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: UnixStream,
    caller: Caller,
}

/// The connections of `listener`. A connection whose peer is unknown is dropped; an accept that fails is not the end.
pub(crate) fn accept(listener: UnixListener, roles: Roles) -> impl Stream<Item = io::Result<Peer>> {
    let roles = Arc::new(roles);
    UnixListenerStream::new(listener)
        .map(move |accepted| {
            let roles = Arc::clone(&roles);
            async move {
                match accepted {
                    Ok(stream) => identify(stream, roles).await,
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(AFTER_FAILURE).await;
                        None
                    }
                }
            }
        })
        .buffer_unordered(LOOKUPS)
        .filter_map(|peer| std::future::ready(peer.map(Ok)))
}

async fn identify(stream: UnixStream, roles: Arc<Roles>) -> Option<Peer> {
    let unknown =
        |error: &dyn std::error::Error| tracing::warn!(%error, "dropped a connection of an unknown peer");
    let credentials = stream.peer_cred().map_err(|error| unknown(&error)).ok()?;
    let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid());
    let role = tokio::task::spawn_blocking(move || roles.lookup(uid, gid));
    let role = role.await.map_err(|error| unknown(&error)).ok()?;
    Some(Peer { stream, caller: Caller { uid, gid, pid, role } })
}

impl Peer {
    /// Who is at the other end.
    pub(crate) fn caller(&self) -> Caller {
        self.caller
    }
}

impl Connected for Peer {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Peer {
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
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
