//! What it costs that an answer outlives its stream. The gateway's own bench knows both ways, with and without; it is a
//! program of its own, because what it measures is inside the gateway.

use std::process::Command;

use serde_json::{Value, json};

use super::super::Bench;
use crate::bench::built::built;
use crate::bench::{Goal, Row};

const FRAMES: u64 = 20_000;

pub(super) fn bookkeeping(bench: &Bench) -> Vec<Row> {
    let messages = bench.folder.parent().expect("a folder in target/bench").join("built-tunnel.json");
    let Some(program) = built(&messages, "resume") else {
        eprintln!("   the gateway's bench `resume` was not built");
        return Vec::new();
    };
    let settings = json!({ "frames": FRAMES, "rounds": bench.scale.times });
    let output = Command::new(program).arg(settings.to_string()).output().expect("it was built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    let nanos = |name: &str| said[name].as_f64().expect("a number");
    vec![Row {
        what: format!(
            "a frame of an answer that can be resumed, CPU of both ends, {FRAMES} frames, median of {}",
            bench.scale.times
        ),
        ours: nanos("logged_ns"),
        peer: Some(nanos("direct_ns")),
        peer_name: "the same frame straight into its stream".to_owned(),
        unit: "ns",
        goal: Goal::RatioAtMost(1.1),
    }]
}
