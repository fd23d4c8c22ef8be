//! LoRA adapters on the real model: import in both forms, swap, limits, files that are none, and the gateway's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod answers;
mod cloud;
mod hostile;
mod limits;
mod peft;
mod races;
mod shape;
