//! The rows of `make bench-runtime`, one promise each. Every row starts its own daemon and its own peer, so that none
//! finds what another left in a cache.

mod adapters;
mod first_token;
mod generation;
mod memory;
mod swap;

use std::path::Path;

use super::bare::Bare;
use super::machine::load;
use super::{PeerKit, Report, Row};

/// What all rows share.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) kit: PeerKit,
    pub(super) bare: Bare,
}

/// The names that `BENCH_ROWS` takes, in the order they run.
pub const NAMES: [&str; 12] = [
    "generation",
    "concurrent",
    "fresh-prompt",
    "second-turn",
    "swap",
    "swap-first-token",
    "swap-rivals",
    "cold-adapter",
    "after-swap",
    "four-adapters",
    "memory",
    "boundary",
];

/// Measures the rows of those names into `report`. The peer is installed below `folder`, where cargo's messages about
/// what it built are too (`built.json`).
pub async fn measure(names: &[&str], folder: &Path, report: &mut Report) {
    let kit = PeerKit::install(folder);
    if let Some(why) = kit.missing() {
        eprintln!("no llama-server to compare with: {why}");
    }
    let bench = Bench { kit, bare: Bare::built(&folder.join("built.json")) };
    for name in names {
        eprintln!("-- {name} (load {})", load());
        for row in bench.row(name).await {
            report.add(row);
        }
    }
}

impl Bench {
    async fn row(&self, name: &str) -> Vec<Row> {
        match name {
            "generation" => generation::one_stream(self).await,
            "concurrent" => vec![generation::eight_at_once(self).await],
            "fresh-prompt" => vec![first_token::fresh_prompt(self).await],
            "second-turn" => vec![first_token::second_turn().await],
            "swap" => vec![swap::until_used(self).await],
            "swap-first-token" => vec![swap::to_first_token(self).await],
            "swap-rivals" => vec![swap::with_rivals(self).await],
            "cold-adapter" => vec![swap::from_disk(self).await],
            "after-swap" => vec![swap::first_token_after().await],
            "four-adapters" => vec![adapters::four_at_once(self).await],
            "memory" => vec![memory::peak(self).await],
            "boundary" => vec![generation::boundary().await],
            other => unreachable!("{other} is not one of {NAMES:?}"),
        }
    }
}
