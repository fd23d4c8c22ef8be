//! Several adapters at the same time.

use super::Bench;
use crate::bench::adapters::FOUR;
use crate::bench::burst::Burst;
use crate::bench::prompts::QUESTIONS;
use crate::bench::statistics::{in_turns, median};
use crate::bench::{Goal, Ours, Question, Row};

const REPETITIONS: usize = 5;
const ASKERS: usize = 8;
const QUESTIONS_EACH: usize = 4;
const MAX_TOKENS: u32 = 48;

/// Eight askers; each names the next of four adapters with every request.
pub(super) async fn four_at_once(bench: &Bench) -> Row {
    let slots = u32::try_from(ASKERS).expect("eight");
    let (ours, peer) = (Ours::start(slots, &FOUR).await, bench.kit.start(slots, &FOUR).await);
    let askers: Vec<Vec<Question<'_>>> = (0..ASKERS)
        .map(|asker| {
            let question = |turn: usize| Question {
                prompt: QUESTIONS[(asker + turn) % QUESTIONS.len()],
                max_tokens: MAX_TOKENS,
                adapter: Some(FOUR[(asker + turn) % FOUR.len()]),
            };
            (0..QUESTIONS_EACH).map(question).collect()
        })
        .collect();
    let left = async |_| Burst::run(&ours, &askers).await.tokens_per_second();
    let (left, right) = match &peer {
        Some(peer) => {
            let right = async |_| Burst::run(peer, &askers).await.tokens_per_second();
            let (left, right) = in_turns(REPETITIONS, left, right).await;
            (left, Some(right))
        }
        None => (in_turns(REPETITIONS, left, async |_| 0.0).await.0, None),
    };
    Row {
        what: format!(
            "{} adapters in turn by request, {ASKERS} concurrent, total (median of {REPETITIONS})",
            FOUR.len()
        ),
        ours: median(&left),
        peer: right.as_deref().map(median),
        peer_name: bench.kit.name(),
        unit: "tokens/s",
        goal: Goal::RatioAtLeast(1.5),
    }
}
