//! The harness of the end-to-end suites: real binaries, real models, real sockets; honest fakes that speak the real
//! protocol. Everything a test starts is owned by it and ends with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test support: a failure is a panic"
)]

pub mod bench;
pub mod binaries;
pub mod client;
pub mod ctl;
pub mod device;
pub mod gateway;
pub mod hub;
pub mod models;
pub mod process;
pub mod provider;
pub mod ready;
pub mod relay;
pub mod router_bench;
pub mod seed;
pub mod streamed;
pub mod tunnel_bench;
