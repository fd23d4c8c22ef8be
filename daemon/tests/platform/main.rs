//! The platform half of the daemon as its users see it: a model process that dies in every way it can, adapters, and
//! the control socket with the daemon behind it. The model process is the scripted one of the `tests` crate.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in tests, a step that fails is the failure"
)]

mod adapters;
mod fixture;
mod identity;
mod inference;
mod model;
mod openai;
mod socket;
