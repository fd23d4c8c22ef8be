//! The `openai` subsystem: a unix socket beside the control socket, and a loopback port when one is configured. Either
//! works without the other, and what cannot be opened is tried again.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use futures_util::{Stream, StreamExt as _};
use synesis_supervise::{BoxError, Context, Subsystem};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::gate::Door;
use super::token::{Token, TokenError};
use super::{connection, routes};
use crate::app::Handles;
use crate::ipc::socket::{Socket, SocketError};
use crate::ipc::{self, AdmissionControl, InProgress, Peer, Roles};

/// Between two tries to open what could not be opened.
const RETRY: Duration = Duration::from_secs(10);
/// After a failed accept (no file descriptors, say), which would otherwise fail again at once.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Of the token that is made here, in the state folder.
const TOKEN_FILE: &str = "openai-token";
/// Of the socket, in the runtime folder.
pub const SOCKET: &str = "openai.sock";

/// A listener that cannot be had.
#[derive(Debug, Error)]
enum ListenError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("the socket cannot be listened on")]
    Listen(#[source] io::Error),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("{address} cannot be listened on")]
    Port { address: SocketAddr, source: io::Error },
}

impl ListenError {
    fn next_step(&self) -> String {
        match self {
            Self::Socket(_) | Self::Listen(_) => {
                "look at paths.runtime_dir; it is tried again by itself".to_owned()
            }
            Self::Token(error) => error.next_step().to_owned(),
            Self::Port { .. } => {
                "end what listens there, or set openai.listen to another port; it is tried again by itself"
                    .to_owned()
            }
        }
    }
}

/// Answers OpenAI's API.
#[derive(Debug)]
pub struct OpenAi {
    path: PathBuf,
    /// Claimed by the first run that can, and kept.
    socket: Option<Socket>,
    listen: Option<SocketAddr>,
    token_file: Option<PathBuf>,
    state: PathBuf,
    roles: Roles,
    router: Router,
    connections: InProgress,
}

/// What is open in one run.
#[derive(Default)]
struct Listeners {
    socket: Option<Pin<Box<dyn Stream<Item = io::Result<Peer>> + Send>>>,
    port: Option<(TcpListener, Arc<Token>)>,
}

impl OpenAi {
    /// An endpoint that nobody can reach until it runs. The limits of `admission` are those of the control socket.
    pub fn new(handles: Handles, admission: AdmissionControl) -> Self {
        let config = Arc::clone(&handles.config);
        Self {
            path: config.paths.runtime_dir.join(SOCKET),
            socket: None,
            listen: config.openai.listen.map(|listen| listen.address()),
            token_file: config.openai.token_file.as_ref().map(|file| file.to_path_buf()),
            state: config.paths.state_dir.to_path_buf(),
            roles: Roles::new(config.ipc.admin_uids.clone()),
            router: routes::router(handles, admission),
            connections: InProgress::default(),
        }
    }

    /// Opens what is not open yet, and says what cannot be opened.
    async fn open(&mut self, listeners: &mut Listeners, cx: &Context) {
        let mut faults = Vec::new();
        if listeners.socket.is_none() {
            match self.open_socket() {
                Ok(socket) => listeners.socket = Some(socket),
                Err(error) => faults.push(error),
            }
        }
        if let (None, Some(address)) = (&listeners.port, self.listen) {
            match self.open_port(address).await {
                Ok(port) => listeners.port = Some(port),
                Err(error) => faults.push(error),
            }
        }
        match faults.first() {
            None => cx.healthy(),
            Some(fault) => {
                tracing::warn!(
                    error = crate::log::chain(fault),
                    "the OpenAI-compatible endpoint is not whole"
                );
                cx.degraded(crate::log::chain(fault), fault.next_step());
            }
        }
    }

    fn open_socket(&mut self) -> Result<Pin<Box<dyn Stream<Item = io::Result<Peer>> + Send>>, ListenError> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(Socket::claim(&self.path, ipc::user_group())?),
        };
        let listener = socket.listener().map_err(ListenError::Listen)?;
        tracing::info!(socket = %self.path.display(), "answering OpenAI's API");
        Ok(Box::pin(ipc::accept(listener, self.roles.clone())))
    }

    async fn open_port(&self, address: SocketAddr) -> Result<(TcpListener, Arc<Token>), ListenError> {
        let token = match &self.token_file {
            Some(file) => Token::read(file)?,
            None => Token::read_or_make(&self.state.join(TOKEN_FILE))?,
        };
        let refused = |source| ListenError::Port { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        // With port 0 the kernel chose one.
        let address = listener.local_addr().map_err(refused)?;
        tracing::info!(%address, "answering OpenAI's API");
        Ok((listener, Arc::new(token)))
    }

    /// A task for one more connection.
    fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        door: Door,
        tasks: &mut JoinSet<()>,
        stopping: &CancellationToken,
    ) {
        match self.connections.enter(&door.caller()) {
            Ok(place) => {
                tasks.spawn(connection::serve(stream, door, self.router.clone(), stopping.clone(), place));
            }
            Err(_) => {
                tracing::debug!("too many connections: one was refused");
                tasks.spawn(connection::refuse(stream));
            }
        }
    }
}

#[async_trait]
impl Subsystem for OpenAi {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let stopping = cx.stopping();
        let (mut listeners, mut tasks) = (Listeners::default(), JoinSet::new());
        let mut tries = interval(RETRY);
        tries.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let whole = listeners.socket.is_some() && (listeners.port.is_some() || self.listen.is_none());
            tokio::select! {
                () = stopping.cancelled() => break,
                _ = tries.tick(), if !whole => {
                    self.open(&mut listeners, cx).await;
                    cx.ready();
                }
                peer = next_peer(&mut listeners.socket) => {
                    let door = Door::Socket(peer.caller());
                    self.serve(peer, door, &mut tasks, &stopping);
                }
                (stream, token) = next_stream(&listeners.port) => {
                    self.serve(stream, Door::Loopback(token), &mut tasks, &stopping);
                }
                Some(ended) = tasks.join_next() => report(ended),
            }
        }
        // Nobody new; those who are being answered hear the end of it.
        drop(listeners);
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
        Ok(())
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection was dropped because of a defect");
    }
}

async fn next_peer(socket: &mut Option<Pin<Box<dyn Stream<Item = io::Result<Peer>> + Send>>>) -> Peer {
    loop {
        let next = match socket {
            Some(peers) => peers.next().await,
            None => std::future::pending().await,
        };
        match next {
            Some(Ok(peer)) => return peer,
            Some(Err(error)) => tracing::warn!(%error, "a connection could not be accepted"),
            // The listener never ends; if it did, it would have to be opened again.
            None => *socket = None,
        }
    }
}

async fn next_stream(port: &Option<(TcpListener, Arc<Token>)>) -> (TcpStream, Arc<Token>) {
    let Some((listener, token)) = port else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // A token of an answer is not worth waiting for the next one.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection keeps its delay");
                }
                return (stream, Arc::clone(token));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(AFTER_FAILURE).await;
            }
        }
    }
}
