//! Where the memory of an idle device is at the gateway, owner by owner: every byte that was asked for, touched or not.

use serde_json::json;

use super::super::gateway::{Gateway, NOBODY};
use super::super::load::Load;
use super::super::{Bench, massif};
use crate::bench::{Goal, Row};

/// Enough to tell what grows with them; under valgrind everything takes fifty times as long.
const DEVICES: usize = 300;
const AT_ONCE: usize = 4;

pub(super) fn heap(bench: &Bench) -> Vec<Row> {
    let count = bench.scale.devices_at_most(DEVICES);
    let (gateway, devices) = Gateway::with_devices(bench, count);
    let folder = gateway.folder().to_owned();
    drop(gateway);
    let Some(wrapper) = massif::wrapper(&folder) else {
        eprintln!("   valgrind is not installed: packaging/prerequisites bench");
        return Vec::new();
    };
    let gateway = Gateway::start_under(&folder, NOBODY, wrapper);
    let before = massif::snapshot(gateway.pid(), &folder);
    let settings = json!({
        "transport": "mesh", "address": gateway.address(), "pki": bench.pki(), "devices": devices,
        "skip": 0, "count": count, "at_once": AT_ONCE,
    });
    let mut fleet = Load::start("fleet", &settings);
    assert_eq!(fleet.number(&json!({ "do": "connect" }), "connected"), count as f64, "all came");
    let after = massif::snapshot(gateway.pid(), &folder);
    let each = before
        .iter()
        .zip(after)
        .map(|(before, after)| (after as f64 - *before as f64) / count as f64 / 1024.0);
    let parts: Vec<(&str, f64)> = massif::names().zip(each).collect();
    let all = parts.iter().map(|(_, each)| each).sum();
    let row = |(owner, ours): (&str, f64)| Row {
        what: format!("heap of an idle device at the gateway ({count} devices): {owner}"),
        ours,
        peer: None,
        peer_name: "valgrind --tool=massif".to_owned(),
        unit: "KiB",
        goal: Goal::Shown,
    };
    std::iter::once(("all of it", all)).chain(parts).map(row).collect()
}
