//! gRPC over unix sockets: by path for clients of a service, by an already connected stream for a child process.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// tonic wants an address even when a connector ignores it.
const UNUSED_ADDRESS: &str = "http://synesis.invalid";

/// A channel to the socket at `path`, connected before this returns.
///
/// # Errors
/// When nothing listens there, or the caller may not connect; the `io::Error` keeps its kind.
pub async fn connect(path: PathBuf) -> io::Result<Channel> {
    over(UnixStream::connect(&path).await?).await
}

/// A channel over one connected stream. It never reconnects: when the stream ends, calls fail.
///
/// # Errors
/// When the HTTP/2 preface cannot be written.
pub async fn over(stream: UnixStream) -> io::Result<Channel> {
    let once = Arc::new(Mutex::new(Some(stream)));
    let connector = service_fn(move |_: Uri| {
        let stream = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { stream.map(TokioIo::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    Endpoint::from_static(UNUSED_ADDRESS).connect_with_connector(connector).await.map_err(io::Error::other)
}
