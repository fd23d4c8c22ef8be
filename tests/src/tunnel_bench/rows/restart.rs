//! The gateway is killed under its devices: how long until they are back.

use serde_json::json;

use super::super::Bench;
use super::super::gateway::Gateway;
use super::super::load::Load;
use crate::bench::statistics::median;
use crate::bench::{Goal, Row};

const DEVICES: usize = 2_000;
const AT_ONCE: usize = 32;
/// The fleet comes over as long as a heartbeat's interval: devices that were switched on together would also notice
/// together, which no fleet does.
const SPREAD_MS: u64 = 30_000;
/// Longer than the promise, so that a miss has a figure.
const PATIENCE_S: u64 = 120;

pub(super) fn killed(bench: &Bench) -> Vec<Row> {
    let count = bench.scale.devices_at_most(DEVICES);
    let (mut gateway, devices) = Gateway::with_devices(bench, count);
    let settings = json!({
        "transport": "mesh", "address": gateway.address(), "pki": bench.pki(), "devices": devices,
        "skip": 0, "count": count, "at_once": AT_ONCE, "spread_ms": SPREAD_MS,
    });
    let mut fleet = Load::start("fleet", &settings);
    assert_eq!(fleet.number(&json!({ "do": "connect" }), "connected"), count as f64, "all came");
    let (mut most, mut last) = (Vec::new(), Vec::new());
    for _ in 0..bench.scale.times {
        fleet.ask(&json!({ "do": "mark" }));
        gateway.kill_and_restart();
        let answer = fleet.ask(&json!({ "do": "back", "share": 0.99, "patience_s": PATIENCE_S }));
        assert_eq!(answer["back"].as_u64(), Some(count as u64), "all came back: {answer}");
        most.push(answer["most_s"].as_f64().expect("a number"));
        last.push(answer["last_s"].as_f64().expect("a number"));
    }
    let slowest = last.iter().copied().fold(0.0, f64::max);
    let row = |what: String, ours: f64, limit: f64| Row {
        what: format!("kill -9 of the gateway under {count} devices: {what}"),
        ours,
        peer: None,
        peer_name: "nobody: peers leave this to their clients".to_owned(),
        unit: "s",
        goal: Goal::Under(limit),
    };
    vec![
        row(format!("until 99 % are back, median of {}", most.len()), median(&most), 15.0),
        row(format!("until the last is, slowest of {}", last.len()), slowest, 60.0),
    ]
}
