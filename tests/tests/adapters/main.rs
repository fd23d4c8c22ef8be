//! LoRA adapters on the real model: import in both forms, swap, limits, and files that are none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod answers;
mod hostile;
mod limits;
mod peft;
mod races;
mod shape;
