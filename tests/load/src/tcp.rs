//! TCP with mutual TLS: length-delimited messages on one connection, and what the other TCP peers build on.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use rustls_pki_types::ServerName;
use serde_json::json;
use synesis_mesh::identity::GATEWAY_SERVER_NAME;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::lines::say;
use crate::pki::Pki;

const BACKLOG: u32 = 4096;
const PREFIX: usize = 4;

/// Listens, says where, and hands out every connection once its handshake is over.
pub(crate) fn accept(pki: &Pki, alpn: &[u8]) -> (JoinSet<()>, mpsc::Receiver<server::TlsStream<TcpStream>>) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("loopback");
    let listener: TcpListener = socket.listen(BACKLOG).expect("loopback");
    say(&json!({ "address": listener.local_addr().expect("bound").to_string() }));
    let acceptor = TlsAcceptor::from(Arc::new(pki.server(alpn)));
    let (accepted_in, accepted) = mpsc::channel(16);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                incoming = listener.accept() => {
                    let Ok((stream, _)) = incoming else { continue };
                    let (acceptor, accepted_in) = (acceptor.clone(), accepted_in.clone());
                    handshakes.spawn(async move {
                        let _ = stream.set_nodelay(true);
                        if let Ok(stream) = acceptor.accept(stream).await {
                            let _ = accepted_in.send(stream).await;
                        }
                    });
                }
                Some(_) = handshakes.join_next() => {}
            }
        }
    });
    (tasks, accepted)
}

/// A connection after its handshake.
pub(crate) async fn connect(
    tls: &TlsConnector,
    address: SocketAddr,
) -> std::io::Result<client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(GATEWAY_SERVER_NAME).expect("a name");
    tls.connect(name, stream).await
}

/// Answers every message with as many bytes as its first four ask for.
pub(crate) async fn serve(pki: &Pki) {
    let (_tasks, mut accepted) = accept(pki, b"bench");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(stream) = accepted.recv() => {
                connections.spawn(async move {
                    let mut talk = Talk::new(stream);
                    while let Some(request) = talk.read().await {
                        if talk.write(&answer(&request)).await.is_none() {
                            return;
                        }
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The request of a bench: so many bytes, the first four of which say how many come back.
pub(crate) fn request(bytes: usize, answer_bytes: u32) -> Vec<u8> {
    let mut request = vec![b'x'; bytes];
    request[..PREFIX].copy_from_slice(&answer_bytes.to_be_bytes());
    request
}

/// The answer it asks for.
pub(crate) fn answer(request: &[u8]) -> Vec<u8> {
    let wanted = request.first_chunk::<PREFIX>().map_or(0, |prefix| u32::from_be_bytes(*prefix));
    vec![b'a'; wanted as usize]
}

/// Length-delimited messages.
pub(crate) struct Talk<S> {
    stream: S,
    buffer: BytesMut,
}

impl<S: AsyncRead + tokio::io::AsyncWrite + Unpin> Talk<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    pub(crate) async fn read(&mut self) -> Option<BytesMut> {
        loop {
            if let Some(prefix) = self.buffer.first_chunk::<PREFIX>() {
                let length = u32::from_be_bytes(*prefix) as usize;
                if self.buffer.len() >= PREFIX + length {
                    self.buffer.advance(PREFIX);
                    return Some(self.buffer.split_to(length));
                }
            }
            self.buffer.reserve(4096);
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn write(&mut self, message: &[u8]) -> Option<()> {
        let mut out = Vec::with_capacity(PREFIX + message.len());
        out.extend_from_slice(&u32::try_from(message.len()).ok()?.to_be_bytes());
        out.extend_from_slice(message);
        self.stream.write_all(&out).await.ok()?;
        self.stream.flush().await.ok()
    }
}
