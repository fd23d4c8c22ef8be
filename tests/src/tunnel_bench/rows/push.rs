//! Bulk: what an adapter costs on its way to the gateway, and how fast it gets there over a long way.

use serde_json::json;

use super::super::load::Load;
use super::super::{Bench, turns};
use crate::bench::usage::cpu;
use crate::bench::{Goal, Row};

const BYTES: usize = 100_000_000;
/// Over the long way: several windows of either side.
const FAR_BYTES: usize = 32_000_000;
const RTT_MS: u64 = 200;

const SIDES: [&str; 2] = ["mesh", "quic"];

pub(super) fn bulk(bench: &Bench) -> Vec<Row> {
    let near = turns::medians(bench.scale.times, SIDES.len(), |side| {
        let server = serve(bench, SIDES[side]);
        let mut device = device(bench, SIDES[side], server.address());
        let before = cpu(server.pid()) + cpu(device.pid());
        device.ask(&json!({ "bytes": BYTES }));
        (cpu(server.pid()) + cpu(device.pid()) - before).as_secs_f64() * 1e9 / BYTES as f64
    });
    let far = turns::medians(bench.scale.times, SIDES.len(), |side| {
        let server = serve(bench, SIDES[side]);
        let relay = Load::start("relay", &json!({ "to": server.address(), "rtt_ms": RTT_MS }));
        let mut device = device(bench, SIDES[side], relay.address());
        FAR_BYTES as f64 / device.number(&json!({ "bytes": FAR_BYTES }), "seconds") / 1e6
    });
    let row = |what: &str, values: &[f64], unit: &'static str, goal: Goal| Row {
        what: format!("{what}, median of {}", bench.scale.times),
        ours: values[0],
        peer: Some(values[1]),
        peer_name: "one stream of bare quinn with its defaults".to_owned(),
        unit,
        goal,
    };
    vec![
        row("100 MB in frames of a work stream: CPU of both ends", &near, "ns/byte", Goal::RatioAtMost(1.25)),
        row("the same at 200 ms RTT: throughput", &far, "MB/s", Goal::RatioAtLeast(1.5)),
    ]
}

fn serve(bench: &Bench, transport: &str) -> Load {
    Load::start("serve", &json!({ "transport": transport, "pki": bench.pki() }))
}

fn device(bench: &Bench, transport: &str, address: &str) -> Load {
    Load::start("push", &json!({ "transport": transport, "address": address, "pki": bench.pki() }))
}
