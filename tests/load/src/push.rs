//! Bulk: so many bytes from a device to the far end, and what it cost this process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use synesis_mesh::kind::StreamKind;
use synesis_mesh::stream::StreamHeader;
use tokio::time::Instant;
use ulid::Ulid;

use crate::lines::{Lines, parse, say};
use crate::pki::Pki;
use crate::tcp::request;
use crate::{Transport, mesh, quic};

/// What is written at once.
const PIECE: usize = 64 * 1024;

#[derive(Deserialize)]
pub(crate) struct Settings {
    transport: Transport,
    address: SocketAddr,
    pki: PathBuf,
}

#[derive(Deserialize)]
struct Command {
    bytes: usize,
}

pub(crate) async fn run(settings: Settings) {
    let Settings { transport, address, .. } = settings;
    let pki = Pki::open(&settings.pki);
    match transport {
        Transport::Mesh => {
            let device = mesh::Device::start(Arc::new(pki.device(&address.to_string())), address, None);
            device.up().await;
            measure(async |pieces| through_tunnel(&device, pieces).await).await;
        }
        Transport::Quic => {
            let (_endpoint, connection) = quic::connect(&pki, address).await;
            measure(async |pieces| through_quinn(&connection, pieces).await).await;
        }
        other => panic!("no bulk over {other:?}"),
    }
}

async fn measure(mut send: impl AsyncFnMut(usize)) {
    say(&json!({ "ready": true }));
    let mut commands = Lines::of_stdin();
    while let Some(command) = commands.next().await {
        let Command { bytes } = parse(command);
        let begun = Instant::now();
        send(bytes.div_ceil(PIECE)).await;
        say(&json!({ "seconds": begun.elapsed().as_secs_f64() }));
    }
}

/// Frames of a work stream.
async fn through_tunnel(device: &mesh::Device, pieces: usize) {
    let piece = Bytes::from(request(PIECE, 1));
    let mut work =
        device.tunnel.open(StreamHeader::new(StreamKind::Ask, Ulid::generate())).await.expect("it is up");
    for _ in 0..pieces {
        work.tx.write(&mesh::frame(piece.clone())).await.expect("the far end reads");
    }
    mesh::answered(work).await;
}

async fn through_quinn(connection: &quinn::Connection, pieces: usize) {
    let piece = request(PIECE, 1);
    let (mut send, mut recv) = connection.open_bi().await.expect("a stream");
    for _ in 0..pieces {
        send.write_all(&piece).await.expect("the peer reads");
    }
    send.finish().expect("it is open");
    recv.read_to_end(1).await.expect("the peer answers");
}
