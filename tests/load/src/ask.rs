//! Round trips, one after the other: 200 bytes up, 1 KB down.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::lines::{Lines, parse, say};
use crate::pki::Pki;
use crate::tcp::{Talk, request};
use crate::{Transport, grpc, mesh, quic, tcp};

#[derive(Deserialize)]
pub(crate) struct Settings {
    transport: Transport,
    address: SocketAddr,
    pki: PathBuf,
    request_bytes: usize,
    answer_bytes: u32,
}

#[derive(Deserialize)]
struct Command {
    count: usize,
}

pub(crate) async fn run(settings: Settings) {
    let Settings { transport, address, request_bytes, answer_bytes, .. } = settings;
    let pki = Pki::open(&settings.pki);
    let body = Bytes::from(request(request_bytes, answer_bytes));
    match transport {
        Transport::Mesh => {
            let device = mesh::Device::start(Arc::new(pki.device(&address.to_string())), address, None);
            device.up().await;
            measure(answer_bytes, async || mesh::ask(&device.tunnel, &body).await).await;
        }
        Transport::Quic => {
            let (_endpoint, connection) = quic::connect(&pki, address).await;
            measure(answer_bytes, async || quic::ask(&connection, &body).await).await;
        }
        Transport::Grpc => {
            let mut client = grpc::connect(&grpc::tls(&pki), address).await;
            measure(answer_bytes, async || grpc::ask(&mut client, &body, answer_bytes).await).await;
        }
        Transport::Tcp => {
            let tls = TlsConnector::from(Arc::new(pki.client(b"bench")));
            let mut talk = Talk::new(tcp::connect(&tls, address).await.expect("the peer answers"));
            measure(answer_bytes, async || {
                talk.write(&body).await.expect("the peer reads");
                talk.read().await.expect("the peer answers").len()
            })
            .await;
        }
        Transport::Mqtt => panic!("MQTT has no requests"),
    }
}

async fn measure(answer_bytes: u32, mut once: impl AsyncFnMut() -> usize) {
    say(&json!({ "ready": true }));
    let mut commands = Lines::of_stdin();
    while let Some(command) = commands.next().await {
        let Command { count } = parse(command);
        let mut micros = Vec::with_capacity(count);
        for _ in 0..count {
            let begun = Instant::now();
            let length = once().await;
            micros.push(begun.elapsed().as_secs_f64() * 1e6);
            assert_eq!(length, answer_bytes as usize, "the whole answer");
        }
        micros.sort_by(f64::total_cmp);
        let at = |share: f64| micros[((count as f64 * share) as usize).min(count - 1)];
        say(&json!({ "p50_us": at(0.5), "p99_us": at(0.99) }));
    }
}
