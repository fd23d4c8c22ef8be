//! How fast tokens come: for one reader, for eight, and what the way from the model to the reader costs.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Bench;
use crate::bench::burst::Burst;
use crate::bench::prompts::LONG_ANSWERS;
use crate::bench::statistics::{in_turns, median};
use crate::bench::usage::{cpu, cpu_of_ended_children};
use crate::bench::{Answer, Goal, Ours, Question, Row, Side};
use crate::ctl::Ctl;

const REPETITIONS: usize = 7;
/// Tokens of one answer of one stream.
const ONE_ANSWER: u32 = 200;
/// Tokens of one of eight answers.
const EACH_ANSWER: u32 = 96;
const ASKERS: usize = 8;

/// Generation speed of one stream, once against each peer.
pub(super) async fn one_stream(bench: &Bench) -> Vec<Row> {
    let (ours, peer) = (Ours::start(1, &[]).await, bench.kit.start(1, &[]).await);
    let ctl = ours.device().ctl();
    let prompt = LONG_ANSWERS[0];
    let through_ctl = async |_| full(through_ctl(&ctl, prompt)).tokens_per_second();
    let bare = async |_| {
        let made = bench.bare.generate(prompt, ONE_ANSWER);
        assert_eq!(made["output_tokens"], ONE_ANSWER, "the answer is too short to compare");
        made["tokens_per_second"].as_f64().expect("a number")
    };
    let (left, right) = in_turns(REPETITIONS, through_ctl, bare).await;
    let row = |left: &[f64], right: Option<&[f64]>, name: String, least: f64| Row {
        what: format!("generation, one stream, through synctl ask (median of {REPETITIONS})"),
        ours: median(left),
        peer: right.map(median),
        peer_name: name,
        unit: "tokens/s",
        goal: Goal::RatioAtLeast(least),
    };
    let mut rows = vec![row(&left, Some(&right), "bare llama.cpp in process".to_owned(), 0.97)];
    let question = Question::new(prompt, ONE_ANSWER);
    let second = match &peer {
        Some(peer) => {
            let server = async |_| full(peer.ask(question).await).tokens_per_second();
            let (left, right) = in_turns(REPETITIONS, through_ctl, server).await;
            row(&left, Some(&right), bench.kit.name(), 1.0)
        }
        None => row(&left, None, bench.kit.name(), 1.0),
    };
    rows.push(second);
    rows
}

/// Tokens per second of eight concurrent asks, all answers together.
pub(super) async fn eight_at_once(bench: &Bench) -> Row {
    let slots = u32::try_from(ASKERS).expect("eight");
    let (ours, peer) = (Ours::start(slots, &[]).await, bench.kit.start(slots, &[]).await);
    let askers: Vec<Vec<Question<'_>>> =
        LONG_ANSWERS.iter().map(|prompt| vec![Question::new(prompt, EACH_ANSWER)]).collect();
    let left = async |_| whole(Burst::run(&ours, &askers).await);
    let (left, right) = match &peer {
        Some(peer) => {
            let (left, right) =
                in_turns(REPETITIONS, left, async |_| whole(Burst::run(peer, &askers).await)).await;
            (left, Some(right))
        }
        None => (in_turns(REPETITIONS, left, async |_| 0.0).await.0, None),
    };
    Row {
        what: format!("total of {ASKERS} concurrent asks (median of {REPETITIONS})"),
        ours: median(&left),
        peer: right.as_deref().map(median),
        peer_name: bench.kit.name(),
        unit: "tokens/s",
        goal: Goal::RatioAtLeast(1.0),
    }
}

/// CPU time of daemon and command line, against the model process's, for the same answers.
pub(super) async fn boundary() -> Row {
    let ours = Ours::start(1, &[]).await;
    let (daemon, model) = (ours.device().process().pid(), ours.device().model_process());
    let ctl = ours.device().ctl();
    let spent = || (cpu(daemon) + cpu_of_ended_children(), cpu(model));
    let before = spent();
    for _ in 0..REPETITIONS {
        full(through_ctl(&ctl, LONG_ANSWERS[0]));
    }
    let after = spent();
    let per_token = |time: Duration| time.as_secs_f64() * 1e6 / (REPETITIONS as f64 * f64::from(ONE_ANSWER));
    Row {
        what: format!("CPU of daemon and ctl per token ({REPETITIONS} answers of {ONE_ANSWER} tokens)"),
        ours: per_token(after.0 - before.0),
        peer: Some(per_token(after.1 - before.1)),
        peer_name: "CPU of our model process per token".to_owned(),
        unit: "us",
        goal: Goal::RatioAtMost(0.05),
    }
}

/// `synctl --json ask`, its lines timed as they arrive.
fn through_ctl(ctl: &Ctl, prompt: &str) -> Answer {
    let limit = ONE_ANSWER.to_string();
    let asked = Instant::now();
    let mut ask = ctl.stream(&["--json", "ask", "--local", "--max-tokens", &limit, prompt]);
    let mut answer = Answer::default();
    while let Some(line) = ask.next_json() {
        match line["type"].as_str() {
            Some("delta") => answer.push(line["text"].as_str().unwrap_or_default(), asked),
            _ => answer.output_tokens = tokens(&line),
        }
    }
    ask.finish().expect_code(0);
    answer
}

fn tokens(done: &Value) -> u32 {
    done["usage"]["output_tokens"].as_u64().and_then(|count| u32::try_from(count).ok()).expect("a count")
}

/// The answer, once it is sure that it ran into its limit: both sides made the same number of tokens.
fn full(answer: Answer) -> Answer {
    assert_eq!(answer.output_tokens, ONE_ANSWER, "the answer is too short to compare: {}", answer.text);
    answer
}

fn whole(burst: Burst) -> f64 {
    for answer in &burst.answers {
        assert_eq!(answer.output_tokens, EACH_ANSWER, "the answer is too short to compare: {}", answer.text);
    }
    burst.tokens_per_second()
}
