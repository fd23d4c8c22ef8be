//! A fleet that only says it is there: memory of each device at the gateway, and what its heartbeats cost.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::super::Bench;
use super::super::gateway::Gateway;
use super::super::load::Load;
use super::super::mosquitto::{self, Mosquitto};
use crate::bench::statistics::median;
use crate::bench::usage::{cpu, memory};
use crate::bench::{Goal, Row};

/// The fleet comes in so many parts, and each is weighed on its own.
const PARTS: usize = 5;
const AT_ONCE: usize = 32;
/// Between heartbeats, and so also the shortest time that shows their cost.
const INTERVAL: Duration = Duration::from_secs(30);
/// After a part has come: its handshakes' memory is freed, and its first heartbeats are through.
const SETTLE: Duration = Duration::from_secs(3);

/// One of those that hold a fleet.
struct Holder {
    transport: &'static str,
    pid: u32,
    address: String,
    devices: usize,
    parts: Vec<Load>,
    /// Bytes of each device, part by part.
    whole: Vec<f64>,
    data: Vec<f64>,
    /// Shares of one core, interval by interval.
    share: Vec<f64>,
}

impl Holder {
    fn new(transport: &'static str, pid: u32, address: String, devices: usize) -> Self {
        Self {
            transport,
            pid,
            address,
            devices,
            parts: Vec::new(),
            whole: Vec::new(),
            data: Vec::new(),
            share: Vec::new(),
        }
    }

    /// The next part of the fleet comes, and is weighed.
    fn grow(&mut self, bench: &Bench, devices: &Path) {
        let count = self.devices / PARTS;
        let before = memory(self.pid);
        let mut part = Load::start(
            "fleet",
            &json!({
                "transport": self.transport, "address": self.address, "pki": bench.pki(), "devices": devices,
                "skip": self.parts.len() * count, "count": count, "at_once": AT_ONCE,
            }),
        );
        let connected = part.number(&json!({ "do": "connect" }), "connected");
        assert_eq!(connected, count as f64, "all came");
        self.parts.push(part);
        std::thread::park_timeout(SETTLE);
        let after = memory(self.pid);
        self.whole.push((after.whole as f64 - before.whole as f64) / count as f64);
        self.data.push((after.data as f64 - before.data as f64) / count as f64);
    }

    fn beats(&mut self) -> f64 {
        self.parts.iter_mut().map(|part| part.number(&json!({ "do": "beats" }), "beats")).sum()
    }

    fn held(&self) -> usize {
        self.devices / PARTS * PARTS
    }
}

pub(super) fn fleet(bench: &Bench) -> Vec<Row> {
    let (gateway, devices) = Gateway::with_devices(bench, bench.scale.devices);
    let broker = Mosquitto::start(bench);
    let tonic = Load::start("serve", &json!({ "transport": "grpc", "pki": bench.pki() }));
    let most = bench.scale.connections();
    let mut holders = vec![
        Holder::new("mesh", gateway.pid(), gateway.address(), bench.scale.devices),
        Holder::new("grpc", tonic.pid(), tonic.address().to_owned(), most),
    ];
    holders.extend(broker.as_ref().map(|broker| Holder::new("mqtt", broker.pid(), broker.address(), most)));
    for part in 0..PARTS {
        let sides = holders.len();
        for step in 0..sides {
            holders[(part + step) % sides].grow(bench, &devices);
        }
    }
    // All at the same time: no part of an interval favours anybody.
    let mut beats = Vec::new();
    for _ in 0..bench.scale.times {
        let before: Vec<_> = holders.iter_mut().map(|holder| (cpu(holder.pid), holder.beats())).collect();
        std::thread::park_timeout(INTERVAL);
        for (holder, (used, counted)) in holders.iter_mut().zip(before) {
            let used = cpu(holder.pid).saturating_sub(used);
            holder.share.push(used.as_secs_f64() / INTERVAL.as_secs_f64() * 100.0);
            if holder.transport == "mesh" {
                beats.push((holder.beats() - counted) / holder.held() as f64);
            }
        }
    }
    let every = median(&beats);
    assert!((0.9..1.1).contains(&every), "{every} heartbeats of each device in an interval of one");
    rows(&holders)
}

fn rows(holders: &[Holder]) -> Vec<Row> {
    let ours = &holders[0];
    let peer = |transport: &str| holders.iter().find(|holder| holder.transport == transport);
    let name = |transport: &str| match transport {
        "mqtt" => mosquitto::name(),
        _ => "tonic stream over TCP and mutual TLS 1.3".to_owned(),
    };
    let row =
        |what: &str, transport: &str, unit: &'static str, goal: Goal, value: &dyn Fn(&Holder) -> f64| {
            let held = peer(transport).map_or(String::new(), |peer| format!(" with {} devices", peer.held()));
            Row {
                what: format!("{} idle devices with 30 s heartbeats: {what}", ours.held()),
                ours: value(ours),
                peer: peer(transport).map(value),
                peer_name: format!("{}{held}", name(transport)),
                unit,
                goal,
            }
        };
    let (whole, data) =
        (|holder: &Holder| median(&holder.whole) / 1024.0, |holder: &Holder| median(&holder.data) / 1024.0);
    let share = |holder: &Holder| median(&holder.share);
    let memory = format!("memory each at the gateway (Pss), median of {PARTS} parts of the fleet");
    let cpu = format!("gateway CPU, share of one core, median of {} intervals", ours.share.len());
    vec![
        row(&memory, "mqtt", "KiB", Goal::Under(31.0), &whole),
        row(&memory, "grpc", "KiB", Goal::Under(31.0), &whole),
        row("of it heap", "mqtt", "KiB", Goal::Shown, &data),
        row(&cpu, "mqtt", "%", Goal::Under(5.0), &share),
        row(&cpu, "grpc", "%", Goal::Under(5.0), &share),
    ]
}
