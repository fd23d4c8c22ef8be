//! The rows of `make bench-tunnel`, one promise each. Every row starts its own processes, and they end with it.

mod anatomy;
mod escalation;
mod handshake;
mod heartbeat;
mod idle;
mod push;
mod restart;
mod resume;
mod round_trip;

use super::Bench;
use crate::bench::Row;

/// The names that `BENCH_ROWS` takes, in the order they run.
pub const NAMES: [&str; 9] =
    ["round-trip", "idle", "anatomy", "heartbeat", "handshake", "restart", "push", "resume", "escalation"];

pub(super) async fn measure(bench: &Bench, name: &str) -> Vec<Row> {
    match name {
        "round-trip" => round_trip::new_stream(bench),
        "idle" => idle::fleet(bench),
        "anatomy" => anatomy::heap(bench),
        "heartbeat" => heartbeat::busy(bench),
        "handshake" => handshake::visits(bench),
        "restart" => restart::killed(bench),
        "push" => push::bulk(bench),
        "resume" => resume::bookkeeping(bench),
        "escalation" => escalation::added(bench).await,
        other => unreachable!("{other} is not one of {NAMES:?}"),
    }
}
