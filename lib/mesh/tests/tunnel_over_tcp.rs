//! The suite of `tunnel.rs` where no UDP gets through.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "tunnel.rs"]
mod tunnel;
