//! Bare quinn with its own defaults: a stream per request, read to its end, answered, ended.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig};
use serde_json::json;
use synesis_mesh::identity::GATEWAY_SERVER_NAME;
use tokio::task::JoinSet;

use crate::lines::say;
use crate::pki::Pki;
use crate::tcp::answer;

const ALPN: &[u8] = b"bench";
/// Longer requests are bulk: counted, not kept.
const KEPT: usize = 4096;

pub(crate) async fn serve(pki: &Pki) {
    let crypto = QuicServerConfig::try_from(pki.server(ALPN)).expect("QUIC's first cipher");
    let config = ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = Endpoint::server(config, ([127, 0, 0, 1], 0).into()).expect("loopback");
    say(&json!({ "address": endpoint.local_addr().expect("bound").to_string() }));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(incoming) = endpoint.accept() => {
                connections.spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    let mut streams = JoinSet::new();
                    loop {
                        tokio::select! {
                            stream = connection.accept_bi() => match stream {
                                Ok((send, recv)) => drop(streams.spawn(stream_to_end(send, recv))),
                                Err(_) => return,
                            },
                            Some(_) = streams.join_next() => {}
                        }
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn stream_to_end(mut send: quinn::SendStream, mut recv: quinn::RecvStream) {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(Some(length)) = recv.read(&mut buffer).await {
        if kept.len() < KEPT {
            kept.extend_from_slice(&buffer[..length]);
        }
    }
    if send.write_all(&answer(&kept)).await.is_ok() {
        let _ = send.finish();
        let _ = send.stopped().await;
    }
}

/// A connection, and the endpoint that carries it.
pub(crate) async fn connect(pki: &Pki, address: SocketAddr) -> (Endpoint, Connection) {
    let crypto = QuicClientConfig::try_from(pki.client(ALPN)).expect("QUIC's first cipher");
    let mut endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).expect("loopback");
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(crypto)));
    let connecting = endpoint.connect(address, GATEWAY_SERVER_NAME).expect("a valid name");
    let connection = connecting.await.expect("the peer answers");
    (endpoint, connection)
}

/// One request, one answer: the answer's length.
pub(crate) async fn ask(connection: &Connection, request: &[u8]) -> usize {
    let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
    send.write_all(request).await.expect("the peer reads");
    send.finish().expect("it is open");
    recv.read_to_end(1 << 20).await.expect("the peer answers").len()
}
