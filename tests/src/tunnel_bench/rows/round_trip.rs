//! A request on a new work stream, beside bare quinn, tonic and TLS over TCP.

use serde_json::json;

use super::super::load::Load;
use super::super::{Bench, turns};
use crate::bench::{Goal, Row};

const REQUEST_BYTES: usize = 200;
const ANSWER_BYTES: usize = 1024;
/// One after the other, in each repetition.
const REQUESTS: usize = 2_000;
/// Not counted: connections and caches warm up.
const WARM_UP: usize = 200;

const SIDES: [&str; 4] = ["mesh", "quic", "grpc", "tcp"];
const NAMES: [&str; 4] = [
    "",
    "bare quinn, a new stream each",
    "tonic unary call over TCP and mutual TLS 1.3",
    "one message on an open TCP connection with mutual TLS 1.3",
];

pub(super) fn new_stream(bench: &Bench) -> Vec<Row> {
    let serve = |side: &&str| Load::start("serve", &json!({ "transport": side, "pki": bench.pki() }));
    let servers: Vec<Load> = SIDES.iter().map(serve).collect();
    let clients = SIDES.iter().zip(&servers).map(|(side, server)| {
        let settings = json!({
            "transport": side, "address": server.address(), "pki": bench.pki(),
            "request_bytes": REQUEST_BYTES, "answer_bytes": ANSWER_BYTES,
        });
        let mut client = Load::start("ask", &settings);
        client.ask(&json!({ "count": WARM_UP }));
        client
    });
    let mut clients: Vec<Load> = clients.collect();
    let mut p99 = vec![Vec::new(); SIDES.len()];
    let p50 = turns::medians(bench.scale.times, SIDES.len(), |side| {
        let answer = clients[side].ask(&json!({ "count": REQUESTS }));
        p99[side].push(answer["p99_us"].as_f64().expect("a number"));
        answer["p50_us"].as_f64().expect("a number")
    });
    let p99: Vec<f64> = p99.iter().map(|values| crate::bench::statistics::median(values)).collect();
    let row = |percentile: &str, values: &[f64], side: usize, goal: Goal| Row {
        what: format!(
            "200 B request, 1 KB answer on a new work stream, {percentile} of {REQUESTS}, median of {}",
            bench.scale.times
        ),
        ours: values[0],
        peer: Some(values[side]),
        peer_name: NAMES[side].to_owned(),
        unit: "µs",
        goal,
    };
    vec![
        row("p50", &p50, 1, Goal::RatioAtMost(1.3)),
        row("p50", &p50, 2, Goal::RatioAtMost(0.5)),
        row("p50", &p50, 3, Goal::Shown),
        row("p99", &p99, 1, Goal::Shown),
        row("p99", &p99, 2, Goal::Shown),
    ]
}
