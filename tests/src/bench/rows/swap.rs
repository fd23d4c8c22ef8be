//! Adapter swaps: how long they take, and what they cost the next request.

use std::fs::File;
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use tokio::time::Instant;

use super::Bench;
use crate::bench::adapters::FOUR;
use crate::bench::prompts::QUESTIONS;
use crate::bench::rivals::Rivals;
use crate::bench::statistics::{in_turns, median, percentile};
use crate::bench::{Goal, Ours, Question, Row, Side};

/// The two trained adapters.
const TWO: [&str; 2] = ["json", "pirate"];
const SWAPS: usize = 500;
const SWAPPED_ASKS: usize = 100;
const RIVALS: usize = 2;
const ASKS_AMONG_RIVALS: usize = 200;
/// The peer spins for the processor with its rivals and may take seconds for each.
const PEERS_ASKS_AMONG_RIVALS: usize = 20;
const COLD_LOADS: usize = 200;
const PAIRS_AFTER: usize = 50;

/// A swap between two loaded adapters. It returns once new requests use the other one, which an ask now and then proves.
pub(super) async fn until_used(bench: &Bench) -> Row {
    let (ours, peer) = (Ours::start(4, &TWO).await, bench.kit.start(4, &TWO).await);
    let left = async |time: usize| {
        let (took, reply) = ours.swap_reply(Some(TWO[time % 2])).await;
        if time.is_multiple_of(25) {
            let answer = ours.ask(Question::new(QUESTIONS[0], 8)).await;
            assert_eq!(answer.generation, reply.generation, "a swap that returned is in use");
            in_its_shape(TWO[time % 2], &answer.text);
        }
        took.as_secs_f64() * 1e3
    };
    let (left, right) = match &peer {
        Some(peer) => {
            let right = async |time: usize| peer.swap(Some(TWO[time % 2])).await.as_secs_f64() * 1e3;
            let (left, right) = in_turns(SWAPS, left, right).await;
            (left, Some(right))
        }
        None => (in_turns(SWAPS, left, async |_| 0.0).await.0, None),
    };
    Row {
        what: format!("adapter swap, both loaded, until new requests use it (p99 of {SWAPS})"),
        ours: percentile(&left, 0.99),
        peer: right.map(|right| percentile(&right, 0.99)),
        peer_name: format!("{}, POST /lora-adapters", bench.kit.name()),
        unit: "ms",
        goal: Goal::Under(20.0),
    }
}

/// From the request for a swap to the first piece of the next answer; the prompt was asked before with each adapter.
pub(super) async fn to_first_token(bench: &Bench) -> Row {
    let (ours, peer) = (Ours::start(4, &TWO).await, bench.kit.start(4, &TWO).await);
    warm(&ours).await;
    let left = async |time| swap_then_ask(&ours, time).await;
    let (left, right) = match &peer {
        Some(peer) => {
            warm(peer).await;
            let (left, right) =
                in_turns(SWAPPED_ASKS, left, async |time| swap_then_ask(peer, time).await).await;
            (left, Some(right))
        }
        None => (in_turns(SWAPPED_ASKS, left, async |_| 0.0).await.0, None),
    };
    Row {
        what: format!("swap to first token, hot prefix per adapter (p50 of {SWAPPED_ASKS})"),
        ours: percentile(&left, 0.5),
        peer: right.map(|right| percentile(&right, 0.5)),
        peer_name: format!("{}, POST /lora-adapters then ask", bench.kit.name()),
        unit: "ms",
        goal: Goal::RatioAtMost(0.3),
    }
}

/// The same while two other processes keep both cores busy.
pub(super) async fn with_rivals(bench: &Bench) -> Row {
    let (ours, peer) = (Ours::start(4, &TWO).await, bench.kit.start(4, &TWO).await);
    warm(&ours).await;
    if let Some(peer) = &peer {
        warm(peer).await;
    }
    let rivals = Rivals::start(RIVALS);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for time in 0..ASKS_AMONG_RIVALS {
        left.push(swap_then_ask(&ours, time).await);
        if let Some(peer) =
            peer.as_ref().filter(|_| time % (ASKS_AMONG_RIVALS / PEERS_ASKS_AMONG_RIVALS) == 0)
        {
            right.push(swap_then_ask(peer, right.len()).await);
        }
    }
    drop(rivals);
    Row {
        what: format!("the same with {RIVALS} busy rival processes (p99 of {ASKS_AMONG_RIVALS})"),
        ours: percentile(&left, 0.99),
        peer: (!right.is_empty()).then(|| percentile(&right, 0.99)),
        peer_name: format!("{}, of {PEERS_ASKS_AMONG_RIVALS}", bench.kit.name()),
        unit: "ms",
        goal: Goal::Under(200.0),
    }
}

/// A swap to an adapter that is on disk only, neither in the process nor in the page cache.
pub(super) async fn from_disk(bench: &Bench) -> Row {
    let ours = Ours::with_config(4, &FOUR, "[adapters]\nmax_loaded = 1\n").await;
    let stored = ours.device().state_dir().join("adapters");
    let mut times = Vec::with_capacity(COLD_LOADS);
    for time in 0..COLD_LOADS {
        forget_pages(&stored);
        let (took, reply) = ours.swap_reply(Some(FOUR[time % FOUR.len()])).await;
        assert!(reply.warmed, "the adapter was in memory");
        times.push(took.as_secs_f64() * 1e3);
    }
    Row {
        what: format!("adapter from disk, 2 MB, cold to usable (p99 of {COLD_LOADS})"),
        ours: percentile(&times, 0.99),
        peer: None,
        peer_name: format!("{}: cannot add an adapter while it runs", bench.kit.name()),
        unit: "ms",
        goal: Goal::Under(100.0),
    }
}

/// The ask after a swap, without the swap, against the same ask without one.
pub(super) async fn first_token_after() -> Row {
    let ours = Ours::start(4, &TWO).await;
    warm(&ours).await;
    let ask = async || ours.ask(Question::new(QUESTIONS[0], 4)).await.first_ms();
    let after = async |time: usize| {
        ours.swap(Some(TWO[time % 2])).await;
        ask().await
    };
    let (after, without) = in_turns(PAIRS_AFTER, after, async |_| ask().await).await;
    Row {
        what: format!("first token of the ask after a swap (median of {PAIRS_AFTER})"),
        ours: median(&after),
        peer: Some(median(&without)),
        peer_name: "the same ask without a swap".to_owned(),
        unit: "ms",
        goal: Goal::RatioAtMost(1.1),
    }
}

/// Asks the prompt of the rows once with each adapter.
async fn warm(side: &impl Side) {
    for time in 0..TWO.len() {
        swap_then_ask(side, time).await;
    }
}

/// Milliseconds from the request for the swap to the first piece of the answer.
async fn swap_then_ask(side: &impl Side, time: usize) -> f64 {
    let adapter = TWO[time % 2];
    let begun = Instant::now();
    side.swap(Some(adapter)).await;
    let until_asked = begun.elapsed();
    let answer = side.ask(Question::new(QUESTIONS[0], 8)).await;
    in_its_shape(adapter, &answer.text);
    (until_asked + answer.first).as_secs_f64() * 1e3
}

/// Fails unless the text could come from that adapter only.
fn in_its_shape(adapter: &str, text: &str) {
    let shape = match adapter {
        "json" => "{\"answer\"",
        _ => "Arr,",
    };
    assert!(text.starts_with(shape), "{adapter} answered: {text}");
}

/// Drops the files of `folder` from the page cache.
fn forget_pages(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("the adapters' folder").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let file = File::open(entry.path()).expect("a stored adapter");
            // A page that is not on disk yet cannot be dropped.
            file.sync_all().expect("a stored adapter");
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("a regular file");
        }
    }
}
