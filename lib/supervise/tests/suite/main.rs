//! The supervisor as its users see it. Time is paused except where real children run.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, outside the test functions themselves"
)]

mod announce;
mod child;
mod notify;
mod part;
mod restart;
mod signals;
mod start;
mod stop;
