//! The real binary against an honest fake of the daemon: a gRPC server on a unix socket that speaks control.v1 and
//! answers what the test scripted.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking; clippy exempts test functions, not their helpers"
)]

mod adapter;
mod admin;
mod ask;
mod billing;
mod endings;
mod fake;
mod node;
mod packaging;
mod redact;
mod run;
mod terminal;
