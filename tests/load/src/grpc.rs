//! tonic over TCP and mutual TLS. The TLS is brought here: a feature of tonic for it would be on in all of the workspace.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::server::TlsStream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::pki::Pki;
use crate::tcp;

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated")]
pub(crate) mod wire {
    tonic::include_proto!("synesis.load");
}

use wire::peer_client::PeerClient;
use wire::peer_server::{Peer, PeerServer};

const ALPN: &[u8] = b"h2";

pub(crate) async fn serve(pki: &Pki) {
    let (_tasks, accepted) = tcp::accept(pki, ALPN);
    let incoming = ReceiverStream::new(accepted).map(|stream| Ok::<_, io::Error>(Accepted(stream)));
    let served = Server::builder().add_service(PeerServer::new(Answers)).serve_with_incoming(incoming).await;
    served.expect("the listener lives");
}

struct Answers;

#[tonic::async_trait]
impl Peer for Answers {
    async fn ask(&self, request: Request<wire::Request>) -> Result<Response<wire::Answer>, Status> {
        let request = request.into_inner();
        Ok(Response::new(wire::Answer { body: vec![b'a'; request.answer_bytes as usize].into() }))
    }

    type BeatsStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<wire::Ack, Status>> + Send>>;

    async fn beats(
        &self,
        request: Request<Streaming<wire::Beat>>,
    ) -> Result<Response<Self::BeatsStream>, Status> {
        let acks = request.into_inner().map(|beat| beat.map(|beat| wire::Ack { seq: beat.seq }));
        Ok(Response::new(Box::pin(acks)))
    }
}

/// A connection of its own.
pub(crate) async fn connect(tls: &TlsConnector, address: SocketAddr) -> PeerClient<Channel> {
    let tls = tls.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let tls = tls.clone();
        async move { tcp::connect(&tls, address).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://peer").connect_with_connector(connector).await;
    PeerClient::new(channel.expect("the peer answers"))
}

/// TLS for [`connect`].
pub(crate) fn tls(pki: &Pki) -> TlsConnector {
    TlsConnector::from(Arc::new(pki.client(ALPN)))
}

/// One request, one answer: its length.
pub(crate) async fn ask(client: &mut PeerClient<Channel>, body: &Bytes, answer_bytes: u32) -> usize {
    let request = wire::Request { body: body.clone(), answer_bytes };
    client.ask(request).await.expect("the peer answers").into_inner().body.len()
}

/// A stream of heartbeats: a sender for them, and the acks.
pub(crate) async fn beats(
    client: &mut PeerClient<Channel>,
) -> (mpsc::Sender<wire::Beat>, Streaming<wire::Ack>) {
    let (beats_in, beats) = mpsc::channel(1);
    let acks = client.beats(ReceiverStream::new(beats)).await.expect("the peer answers");
    (beats_in, acks.into_inner())
}

/// A TLS stream that tonic serves on.
struct Accepted(TlsStream<TcpStream>);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
