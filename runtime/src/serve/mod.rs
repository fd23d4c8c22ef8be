//! The process's outside: the inherited socket, the gRPC server on it, and leaving when the parent is gone.

mod connection;
mod convert;
mod files;
mod memory;
mod problem;
mod service;

use std::io;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use synesis_proto::runtime::v1::runtime_server::RuntimeServer;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::engine::Engine;
use connection::Connection;
pub use connection::{InheritError, inherited_stream};
use service::Service;

/// How long the engine may take to notice that it is over: it looks between tokens and between chunks of a
/// prompt.
const GRACE: Duration = Duration::from_secs(2);

/// Why serving ended other than by the parent's leaving.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The inherited socket could not be used, or the thread not be started.
    #[error("the server cannot start: {0}")]
    Start(#[source] io::Error),
    /// The transport failed.
    #[error("the connection failed: {0}")]
    Transport(#[source] tonic::transport::Error),
    /// A defect: the thread is gone while requests may come.
    #[error("the engine's thread ended unexpectedly")]
    EngineLost,
}

/// Serves `runtime.v1` on one connection until it drops.
///
/// # Errors
/// When the server cannot start, or the engine's thread dies.
pub async fn serve(stream: std::os::unix::net::UnixStream) -> Result<(), ServeError> {
    let stream = UnixStream::from_std(stream).map_err(ServeError::Start)?;
    let (engine, mut engine_ended) = Engine::start().map_err(ServeError::Start)?;

    // A server ends when its stream of connections does, so the one connection is followed by none for ever;
    // and it does not end when its one connection does, so the connection cancels it as it drops.
    let gone = CancellationToken::new();
    let connection = Connection::new(stream, gone.clone().drop_guard());
    let incoming = stream::once(async { Ok::<_, io::Error>(connection) }).chain(stream::pending());
    let server = Server::builder()
        .add_service(RuntimeServer::new(Service::new(engine.clone())))
        .serve_with_incoming_shutdown(incoming, gone.cancelled_owned());

    tracing::info!("serving");
    // It goes with the server, as its handle keeps the engine's thread alive.
    let tidy = async move { engine.keep_tidy().await };
    let outcome = tokio::select! {
        outcome = server => outcome.map_err(ServeError::Transport),
        _ = &mut engine_ended => return Err(ServeError::EngineLost),
        () = tidy => return Err(ServeError::EngineLost),
    };
    // The server is gone and with it every handle of the engine: its thread stops after the current token.
    tracing::info!("the parent has closed the connection");
    if tokio::time::timeout(GRACE, &mut engine_ended).await.is_err() {
        // A long load or a slow prefill. Leaving `main` would run the library's destructors under that
        // thread.
        tracing::warn!("the engine is still busy; ending at once");
        let _never_returns = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
    outcome
}
