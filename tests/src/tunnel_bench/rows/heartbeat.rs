//! What a heartbeat costs when there are many of them.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::super::gateway::Gateway;
use super::super::load::Load;
use super::super::mosquitto::{self, Mosquitto};
use super::super::{Bench, turns};
use crate::bench::usage::cpu;
use crate::bench::{Goal, Row};

/// 2,500 devices with two a second.
const DEVICES: usize = 2_500;
const INTERVAL_MS: u64 = 500;
const AT_ONCE: usize = 32;
const SETTLE: Duration = Duration::from_secs(2);
const WINDOW: Duration = Duration::from_secs(10);

pub(super) fn busy(bench: &Bench) -> Vec<Row> {
    let count = bench.scale.devices_at_most(DEVICES);
    let (gateway, devices) = Gateway::with_devices(bench, count);
    let broker = Mosquitto::start(bench);
    let mut sides = vec![("mesh", gateway.pid(), gateway.address())];
    sides.extend(broker.as_ref().map(|broker| ("mqtt", broker.pid(), broker.address())));
    let mut rates = Vec::new();
    let micros = turns::medians(bench.scale.times, sides.len(), |side| {
        let (transport, pid, address) = &sides[side];
        let (each, rate) = one(bench, transport, *pid, address, &devices, count);
        rates.push(rate);
        each
    });
    let rate = crate::bench::statistics::median(&rates).round();
    let row = |goal| Row {
        what: format!(
            "a heartbeat and its answer at {rate}/s ({count} devices), gateway CPU, median of {} x {} s",
            bench.scale.times,
            WINDOW.as_secs()
        ),
        ours: micros[0],
        peer: micros.get(1).copied(),
        peer_name: format!("{}, PUBLISH of the same vitals with QoS 1", mosquitto::name()),
        unit: "µs",
        goal,
    };
    vec![row(Goal::Under(30.0)), row(Goal::RatioAtMost(2.0))]
}

/// Microseconds of each heartbeat, and how many there were in a second.
fn one(bench: &Bench, transport: &str, pid: u32, address: &str, devices: &Path, count: usize) -> (f64, f64) {
    let settings = json!({
        "transport": transport, "address": address, "pki": bench.pki(), "devices": devices,
        "skip": 0, "count": count, "at_once": AT_ONCE, "heartbeat_ms": INTERVAL_MS,
    });
    let mut fleet = Load::start("fleet", &settings);
    assert_eq!(fleet.number(&json!({ "do": "connect" }), "connected"), count as f64, "all came");
    std::thread::park_timeout(SETTLE);
    let beats = json!({ "do": "beats" });
    let (before, used) = (fleet.number(&beats, "beats"), cpu(pid));
    std::thread::park_timeout(WINDOW);
    let (after, used) = (fleet.number(&beats, "beats"), cpu(pid).saturating_sub(used));
    fleet.ask(&json!({ "do": "leave" }));
    (used.as_secs_f64() * 1e6 / (after - before), (after - before) / WINDOW.as_secs_f64())
}
