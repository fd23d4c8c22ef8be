//! The second door: TLS over TCP, for devices that UDP does not let through. Behind it, everything is the same.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::endpoint::Peer;
use crate::carrier::{Connection, ConnectionLost, Leash, Muxed, Side};
use crate::tls::CertificateFault;
use crate::transport;

/// After a failed accept (no file descriptor is free, as a rule): the first wait, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// A peer whose handshake failed may take this long to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// A bound TCP listener, and the connections that came in through it.
#[derive(Debug)]
pub(super) struct TcpDoor {
    listener: TcpListener,
    tls: Mutex<Arc<ServerConfig>>,
    closed: CancellationToken,
    inside: Mutex<Inside>,
}

/// The connections that came in, and may have gone.
#[derive(Debug, Default)]
struct Inside {
    leashes: Vec<Leash>,
    /// With so many, those that are gone are looked for.
    sweep_at: usize,
}

impl TcpDoor {
    pub(super) fn bind(address: SocketAddr, tls: Arc<ServerConfig>) -> io::Result<Self> {
        let listener = transport::tcp_listener(address)?;
        let (closed, inside) = (CancellationToken::new(), Mutex::default());
        Ok(Self { listener, tls: Mutex::new(tls), closed, inside })
    }

    /// Uses other certificates from the next handshake on.
    pub(super) fn renew_tls(&self, tls: Arc<ServerConfig>) {
        *lock(&self.tls) = tls;
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next peer, or `None` after [`Self::close`]. An error of the listener is waited out: there may be a free file
    /// descriptor soon. Cancel safe.
    pub(super) async fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        let mut wait = RETRY.0;
        loop {
            let accepted = tokio::select! {
                () = self.closed.cancelled() => return None,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok(peer) => return Some(peer),
                // The peer has hung up already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "no TCP connection can be taken in now");
                    tokio::select! {
                        () = self.closed.cancelled() => return None,
                        () = sleep(wait) => wait = (wait * 2).min(RETRY.1),
                    }
                }
            }
        }
    }

    /// TLS, and the streams on it. The caller bounds the time.
    pub(super) async fn handshake(&self, stream: TcpStream, remote: SocketAddr) -> Result<Peer, Refused> {
        let untuned =
            |error: io::Error| Refused { cause: ConnectionLost::from(&error), fault: None, stream: None };
        transport::tune_tcp(&stream).map_err(untuned)?;
        let acceptor = TlsAcceptor::from(lock(&self.tls).clone());
        let tls = acceptor.accept(stream).into_fallible().await.map_err(|(error, stream)| Refused {
            cause: ConnectionLost::from(&error),
            fault: CertificateFault::of(&error),
            stream: Some(stream),
        })?;
        let session = tls.get_ref().1;
        let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
        let leaf =
            session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| leaf.clone().into_owned());
        let muxed = Muxed::start(tls, Side::Gateway, remote);
        self.note(muxed.leash());
        Ok(Peer { connection: Connection::Tcp(muxed), protocol, leaf })
    }

    fn note(&self, leash: Leash) {
        let mut inside = lock(&self.inside);
        if inside.leashes.len() >= inside.sweep_at {
            inside.leashes.retain(|leash| !leash.is_gone());
            inside.sweep_at = 2 * inside.leashes.len() + 16;
        }
        inside.leashes.push(leash);
    }

    /// Ends all connections and takes no more.
    pub(super) fn close(&self, code: u32, reason: &str) {
        self.closed.cancel();
        for leash in &lock(&self.inside).leashes {
            leash.close(code, reason);
        }
    }

    /// Resolves when all connections are gone.
    pub(super) async fn wait_idle(&self) {
        let leashes = lock(&self.inside).leashes.clone();
        for leash in leashes {
            leash.gone().await;
        }
    }
}

/// A handshake that failed. The alert that says why is on its way.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) cause: ConnectionLost,
    /// What is wrong with the peer's certificate, if that is it.
    pub(super) fault: Option<CertificateFault>,
    stream: Option<TcpStream>,
}

impl Refused {
    /// Hears the peer out for a moment: a socket that is closed on unread bytes takes the alert with it.
    pub(super) async fn farewell(self) -> ConnectionLost {
        if let Some(mut stream) = self.stream {
            let mut bytes = [0; 1024];
            // However it ends, it has ended.
            let _ = timeout(FAREWELL, async {
                stream.shutdown().await?;
                while stream.read(&mut bytes).await? > 0 {}
                Ok::<(), io::Error>(())
            })
            .await;
        }
        self.cause
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every change is complete when the lock is let go.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
