//! What the model process takes in memory.

use super::Bench;
use crate::bench::burst::Burst;
use crate::bench::prompts::LONG_ANSWERS;
use crate::bench::statistics::{in_turns, median};
use crate::bench::usage::peak_resident;
use crate::bench::{Goal, Ours, Question, Row};

const REPETITIONS: usize = 5;
const ASKERS: usize = 8;
const EACH_ANSWER: u32 = 48;
const TWO: [&str; 2] = ["json", "pirate"];

/// The most memory either side ever had resident in a life of one burst of concurrent asks, two adapters loaded.
pub(super) async fn peak(bench: &Bench) -> Row {
    let slots = u32::try_from(ASKERS).expect("eight");
    let askers: Vec<Vec<Question<'_>>> =
        LONG_ANSWERS.iter().map(|prompt| vec![Question::new(prompt, EACH_ANSWER)]).collect();
    let ours = async |_| {
        let ours = Ours::start(slots, &TWO).await;
        Burst::run(&ours, &askers).await;
        mib(peak_resident(ours.device().model_process()))
    };
    let peers = async |_| {
        let Some(peer) = bench.kit.start(slots, &TWO).await else { return 0.0 };
        Burst::run(&peer, &askers).await;
        // llama-server itself would not have Python around it.
        mib(peak_resident(peer.pid()) - peer.interpreter_bytes())
    };
    let (left, right) = in_turns(REPETITIONS, ours, peers).await;
    Row {
        what: format!(
            "peak memory of the model process, {ASKERS} slots, 2 adapters (median of {REPETITIONS})"
        ),
        ours: median(&left),
        peer: bench.kit.missing().is_none().then(|| median(&right)),
        peer_name: format!("{}, less the Python interpreter", bench.kit.name()),
        unit: "MiB",
        goal: Goal::RatioAtMost(1.05),
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
