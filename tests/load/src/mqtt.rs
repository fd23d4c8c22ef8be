//! As much of MQTT 3.1.1 as a device needs: connect, publish with an acknowledgement, leave.

use std::net::SocketAddr;
use std::sync::Arc;

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki::Pki;
use crate::{mesh, tcp};

const CONNACK: u8 = 0x20;
const PUBACK: u8 = 0x40;
/// Seconds; far above every interval of heartbeats.
const KEEP_ALIVE: u16 = 600;

pub(crate) struct Device(TlsStream<TcpStream>);

/// TLS for [`Device::connect`].
pub(crate) fn tls(pki: &Pki) -> TlsConnector {
    TlsConnector::from(Arc::new(pki.client(b"")))
}

impl Device {
    /// A clean session under this name; resolves when the broker has taken it.
    pub(crate) async fn connect(
        tls: &TlsConnector,
        address: SocketAddr,
        name: &str,
    ) -> std::io::Result<Self> {
        let mut stream = tcp::connect(tls, address).await?;
        let mut body = b"\x00\x04MQTT\x04\x02".to_vec();
        body.extend(KEEP_ALIVE.to_be_bytes());
        push_text(&mut body, name);
        stream.write_all(&packet(0x10, &body)).await?;
        stream.flush().await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        assert!(answer[0] == CONNACK && answer[3] == 0, "the broker refused: {answer:?}");
        Ok(Self(stream))
    }

    /// One heartbeat with vitals, at least once; resolves with the broker's acknowledgement.
    pub(crate) async fn beat(&mut self, seq: u64) -> std::io::Result<()> {
        let id = u16::try_from(seq % 65_535).expect("below") + 1;
        let mut body = Vec::new();
        push_text(&mut body, "vitals");
        body.extend(id.to_be_bytes());
        body.extend(mesh::typical_vitals().encode_to_vec());
        self.0.write_all(&packet(0x32, &body)).await?;
        self.0.flush().await?;
        let mut answer = [0; 4];
        self.0.read_exact(&mut answer).await?;
        assert!(answer[0] == PUBACK && answer[2..] == id.to_be_bytes(), "no acknowledgement: {answer:?}");
        Ok(())
    }

    /// Says goodbye.
    pub(crate) async fn leave(mut self) -> std::io::Result<()> {
        self.0.write_all(&packet(0xe0, &[])).await?;
        self.0.shutdown().await
    }
}

fn push_text(body: &mut Vec<u8>, text: &str) {
    body.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
    body.extend(text.as_bytes());
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).ok().filter(|length| *length < 128).expect("a short packet");
    [&[kind, length][..], body].concat()
}
