//! How long a reader waits for the first piece of an answer.

use super::Bench;
use crate::bench::prompts::{Fresh, LONG_ANSWERS};
use crate::bench::statistics::{in_turns, median};
use crate::bench::{Goal, Ours, Question, Row, Side};

const REPETITIONS: usize = 9;
const FRESH_TOKENS: u32 = 256;
const SESSION_TOKENS: u32 = 1_000;
const SESSIONS: usize = 5;

/// A prompt that neither side has ever seen.
pub(super) async fn fresh_prompt(bench: &Bench) -> Row {
    let (ours, peer) = (Ours::start(4, &[]).await, bench.kit.start(4, &[]).await);
    let mut fresh = Fresh::seeded(1);
    let mut prompts = Vec::with_capacity(REPETITIONS);
    for _ in 0..REPETITIONS {
        prompts.push(fresh.prompt(&ours, FRESH_TOKENS).await);
    }
    let left = async |time: usize| first(&ours, &prompts[time]).await;
    let (left, right) = match &peer {
        Some(peer) => {
            let (left, right) =
                in_turns(REPETITIONS, left, async |time: usize| first(peer, &prompts[time]).await).await;
            (left, Some(right))
        }
        None => (in_turns(REPETITIONS, left, async |_| 0.0).await.0, None),
    };
    Row {
        what: format!("first token, fresh prompt of {FRESH_TOKENS} tokens (median of {REPETITIONS})"),
        ours: median(&left),
        peer: right.as_deref().map(median),
        peer_name: bench.kit.name(),
        unit: "ms",
        goal: Goal::RatioAtMost(1.05),
    }
}

/// The second turn of a long session, against its first turn.
pub(super) async fn second_turn() -> Row {
    let ours = Ours::start(4, &[]).await;
    let mut fresh = Fresh::seeded(2);
    let (mut firsts, mut seconds) = (Vec::new(), Vec::new());
    for session in 0..SESSIONS {
        let session = format!("bench-{session}");
        let prompt = fresh.prompt(&ours, SESSION_TOKENS).await;
        let first = ours.ask_in(&session, Question::new(&prompt, 16)).await;
        assert_eq!(first.input_tokens, SESSION_TOKENS);
        let second = ours.ask_in(&session, Question::new(LONG_ANSWERS[0], 16)).await;
        assert!(second.input_tokens > SESSION_TOKENS, "the first turn is a part of the second");
        firsts.push(first.first_ms());
        seconds.push(second.first_ms());
    }
    Row {
        what: format!(
            "first token, second turn of a session of {SESSION_TOKENS} tokens (median of {SESSIONS})"
        ),
        ours: median(&seconds),
        peer: Some(median(&firsts)),
        peer_name: "the first turns of the same sessions".to_owned(),
        unit: "ms",
        goal: Goal::RatioAtMost(0.15),
    }
}

async fn first(side: &impl Side, prompt: &str) -> f64 {
    let answer = side.ask(Question::new(prompt, 8)).await;
    assert_eq!(answer.input_tokens, FRESH_TOKENS, "both sides count the same");
    answer.first_ms()
}
