//! What it costs to let a device in: full handshakes of both certificates, and nothing resumed.

use serde_json::json;

use super::super::gateway::Gateway;
use super::super::load::Load;
use super::super::mosquitto::{self, Mosquitto};
use super::super::{Bench, turns};
use crate::bench::usage::cpu;
use crate::bench::{Goal, Row};

/// In each repetition.
const VISITS: usize = 1_000;
const AT_ONCE: usize = 8;
/// As many devices come in turns.
const DEVICES: usize = 100;

pub(super) fn visits(bench: &Bench) -> Vec<Row> {
    let count = bench.scale.devices_at_most(VISITS);
    let (gateway, devices) = Gateway::with_devices(bench, DEVICES);
    let bare = Load::start("serve", &json!({ "transport": "mesh", "pki": bench.pki() }));
    let broker = Mosquitto::start(bench);
    let side = |transport: &str, pid: u32, address: &str, devices: Option<&std::path::Path>| {
        let settings =
            json!({ "transport": transport, "address": address, "pki": bench.pki(), "devices": devices });
        (pid, Load::start("visits", &settings))
    };
    let mut sides = vec![
        side("mesh", gateway.pid(), &gateway.address(), Some(&devices)),
        side("mesh", bare.pid(), bare.address(), None),
    ];
    sides.extend(broker.as_ref().map(|broker| side("mqtt", broker.pid(), &broker.address(), None)));
    let command = |count: usize| json!({ "count": count, "at_once": AT_ONCE });
    for (_, visitors) in &mut sides {
        visitors.ask(&command(count / 10));
    }
    let micros = turns::medians(bench.scale.times, sides.len(), |side| {
        let (pid, visitors) = &mut sides[side];
        let before = cpu(*pid);
        visitors.ask(&command(count));
        cpu(*pid).saturating_sub(before).as_secs_f64() * 1e6 / count as f64
    });
    let row = |what: &str, ours: f64, goal: Goal| Row {
        what: format!("{what}, CPU there, {count} visits, median of {}", bench.scale.times),
        ours,
        peer: micros.get(2).copied(),
        peer_name: format!("{}: handshake, CONNECT, DISCONNECT", mosquitto::name()),
        unit: "µs",
        goal,
    };
    vec![
        row(
            "a device comes to the gateway and leaves: full handshake, hello, store",
            micros[0],
            Goal::RatioAtMost(0.5),
        ),
        row("the same at the tunnel's end alone: full handshake, hello", micros[1], Goal::Shown),
    ]
}
