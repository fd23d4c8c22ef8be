//! What routing by confidence gains: right answers against their cost, for the local model alone, for the cloud alone, for
//! escalating at random, and for the cascade at several thresholds. Everything runs through the real daemon, gateway and
//! receipts. The one thing that is not real is the cloud model: it is an oracle that answers from the key, because no
//! strong model can be had here, so "cloud" is an upper bound and the price list is the gateway's.

mod questions;

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::bench::{Goal, Report, Row};
use crate::ctl::Ctl;
use crate::device::Device;
use crate::gateway::Gateway;
use crate::provider::{Provider, Script};
use questions::{QUESTIONS, is_right};

/// Of `routing.min_confidence`.
const SWEEP: [&str; 5] = ["0.50", "0.60", "0.65", "0.70", "0.80"];
/// Small models ramble.
const SYSTEM: &str = "Answer with the answer only.";
const MAX_TOKENS: &str = "24";

/// What one way of answering all questions gave. Answers are greedy: asking again gives the same.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Outcome {
    /// Share of right answers.
    right: f64,
    /// Mean cost of a question, in millionths of a US dollar, from the receipts.
    cost: f64,
    /// How many went to the cloud.
    escalated: usize,
}

/// Measures, and adds the rows.
///
/// # Panics
/// When anything on the way fails.
pub fn measure(report: &mut Report) {
    let provider = Provider::start(Script::Key(key()));
    let gateway = Gateway::with_provider(&provider);
    let mut device = Device::with_config(&config("0"));
    gateway.enroll(&device);

    let local = ask_all(&device.ctl(), "--local");
    let cloud = ask_all(&device.ctl(), "--cloud");
    assert!((cloud.right - 1.0).abs() < f64::EPSILON, "the oracle knows its key: {cloud:?}");
    report.add(Row {
        what: format!("right answers of {}, local model alone", QUESTIONS.len()),
        ours: local.right,
        peer: Some(cloud.right),
        peer_name: "the oracle alone (upper bound)".to_owned(),
        unit: "share",
        goal: Goal::RatioAtMost(1.0),
    });
    let mut gained = Vec::new();
    for threshold in SWEEP {
        fs::write(device.dir().join("conf.d/50-test.toml"), config(threshold)).expect("config");
        device.restart();
        device.ctl().wait_for_tunnel();
        let ours = ask_all(&device.ctl(), "--auto");
        let random = at_random(local, cloud, ours.cost);
        gained.push(ours.right - random);
        report.add(Row {
            what: format!("right answers at min_confidence {threshold} ({} escalated)", ours.escalated),
            ours: ours.right,
            peer: Some(random),
            peer_name: "escalating at random for the same money (expected)".to_owned(),
            unit: "share",
            goal: Goal::RatioAtLeast(1.0),
        });
        report.add(Row {
            what: format!("cost of a question at min_confidence {threshold}"),
            ours: ours.cost,
            peer: Some(cloud.cost),
            peer_name: "the oracle alone".to_owned(),
            unit: "µUSD",
            goal: Goal::RatioAtMost(1.0),
        });
    }
    let mean = gained.iter().sum::<f64>() / gained.len() as f64;
    let middle = at_random(local, cloud, cloud.cost / 2.0);
    report.add(Row {
        what: "right answers over the sweep, mean lead over random added to random at half the oracle's cost"
            .to_owned(),
        ours: middle + mean,
        peer: Some(middle),
        peer_name: "escalating at random for the same money (expected)".to_owned(),
        unit: "share",
        goal: Goal::RatioAtLeast(1.0),
    });
}

/// The oracle's answers. Made once, and kept as long as the bench runs.
fn key() -> &'static [(&'static str, &'static str)] {
    let key: Vec<_> = QUESTIONS.iter().map(|question| (question.prompt, question.right[0])).collect();
    Vec::leak(key)
}

fn config(min_confidence: &str) -> String {
    let mut config = String::from("[ipc]\nrequests_per_minute = 100000\n");
    let _ = writeln!(
        config,
        "[routing]\npolicy = \"auto\"\nmin_confidence = {min_confidence}\nconfidence_tokens = 24"
    );
    config
}

/// What a random choice of questions to escalate would have right, on average, if it may cost as much.
fn at_random(local: Outcome, cloud: Outcome, cost: f64) -> f64 {
    local.right + (cloud.right - local.right) * cost / cloud.cost
}

fn ask_all(ctl: &Ctl, mode: &str) -> Outcome {
    ctl.wait_for_model();
    let mut sum = Outcome { right: 0.0, cost: 0.0, escalated: 0 };
    for question in QUESTIONS {
        let done = ctl.json(&["ask", mode, "--system", SYSTEM, "--max-tokens", MAX_TOKENS, question.prompt]);
        let answer = done["text"].as_str().expect("text");
        sum.right += f64::from(u8::from(is_right(question, answer)));
        sum.cost += cost(&done);
        sum.escalated += usize::from(done["origin"] == "cloud");
    }
    let many = QUESTIONS.len() as f64;
    Outcome { right: sum.right / many, cost: sum.cost / many, ..sum }
}

/// In millionths of a US dollar.
fn cost(done: &Value) -> f64 {
    match &done["receipt"] {
        Value::Null => 0.0,
        receipt => receipt["net_nanousd"].as_f64().unwrap_or_else(|| panic!("no receipt: {done}")) / 1e3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_lies_on_the_line_between_both_sides() {
        let local = Outcome { right: 0.25, cost: 0.0, escalated: 0 };
        let cloud = Outcome { right: 1.0, cost: 8.0, escalated: 60 };
        assert_eq!([0.0, 4.0, 8.0].map(|cost| at_random(local, cloud, cost)), [0.25, 0.625, 1.0]);
    }
}
