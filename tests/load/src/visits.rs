//! Devices that come, are let in, and leave: what is left is the cost of a full handshake.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::lines::{Lines, parse, say};
use crate::pki::Pki;
use crate::{Transport, identities, mesh, mqtt};

#[derive(Deserialize)]
pub(crate) struct Settings {
    transport: Transport,
    address: SocketAddr,
    pki: PathBuf,
    /// Without: the one device of `pki`.
    devices: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Command {
    count: usize,
    at_once: usize,
}

/// Enough that none comes twice at a time.
const DIFFERENT: usize = 64;

pub(crate) async fn run(settings: Settings) {
    let Settings { transport, address, pki, devices } = settings;
    let pki = Pki::open(pki);
    say(&json!({ "ready": true }));
    match transport {
        Transport::Mesh => {
            let known = match devices {
                Some(file) => identities::read(&file, 0, DIFFERENT),
                None => vec![pki.device(&address.to_string())],
            };
            let known: Vec<_> = known.into_iter().map(Arc::new).collect();
            let visit = move |index: usize| {
                let identity = Arc::clone(&known[index % known.len()]);
                async move {
                    let device = mesh::Device::start(identity, address, None);
                    device.up().await;
                    device.leave().await;
                }
            };
            measure(visit).await;
        }
        Transport::Mqtt => {
            let tls = mqtt::tls(&pki);
            let visit = move |index: usize| {
                let tls = tls.clone();
                async move {
                    let name = format!("visit-{index}");
                    let device =
                        mqtt::Device::connect(&tls, address, &name).await.expect("the broker answers");
                    let _ = device.leave().await;
                }
            };
            measure(visit).await;
        }
        other => panic!("no visits over {other:?}"),
    }
}

async fn measure<F: Future<Output = ()> + Send + 'static>(
    visit: impl Fn(usize) -> F + Send + Sync + 'static,
) {
    let (visit, next) = (Arc::new(visit), Arc::new(AtomicUsize::new(0)));
    let mut commands = Lines::of_stdin();
    while let Some(command) = commands.next().await {
        let Command { count, at_once } = parse(command);
        let begun = Instant::now();
        let end = next.load(Ordering::Relaxed) + count;
        let mut lanes = JoinSet::new();
        for _ in 0..at_once {
            let (visit, next) = (Arc::clone(&visit), Arc::clone(&next));
            lanes.spawn(async move {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= end {
                        return;
                    }
                    visit(index).await;
                }
            });
        }
        while let Some(lane) = lanes.join_next().await {
            lane.expect("a visit succeeds");
        }
        next.store(end, Ordering::Relaxed);
        say(&json!({ "visits": count, "seconds": begun.elapsed().as_secs_f64() }));
    }
}
