//! Every decoder of bytes that a stranger sends, each as a function that takes any bytes at all and panics when
//! something does not hold that must hold for all of them. `make test` feeds them with mutations of good input
//! (`tests/mutations.rs`), `make fuzz` with what libFuzzer invents (`fuzz/`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test support: a finding is a panic"
)]

mod adapters;
mod money;
mod privacy;
mod provider;
mod trust;
mod tunnel;
mod vectors;

// Compiled in, not linked: these two crates are a program and the one that links llama.cpp.
#[doc(hidden)]
#[path = "../../../runtime/src/fit/mod.rs"]
pub mod fit;
#[allow(dead_code, reason = "what the runtime's tests do not need")]
#[path = "../../../runtime/src/gguf/fixture.rs"]
mod fixture;
#[doc(hidden)]
#[path = "../../../runtime/src/gguf/mod.rs"]
pub mod gguf;
#[doc(hidden)]
#[path = "../../../runtime/src/peft/mod.rs"]
pub mod peft;
#[path = "../../../cloud/gateway/src/providers/sse.rs"]
mod sse;

// Where the fixture looks for it.
use gguf::TensorType;

/// A decoder.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, on the command line and of its folders.
    pub name: &'static str,
    /// Decodes, and panics when something does not hold.
    pub run: fn(&[u8]),
    /// Good input, and bad input of which somebody thought.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "frames", run: tunnel::frames, seeds: tunnel::frame_seeds },
    Target { name: "headers", run: tunnel::headers, seeds: tunnel::header_seeds },
    Target { name: "records", run: tunnel::records, seeds: tunnel::record_seeds },
    Target { name: "carrier", run: tunnel::carrier, seeds: tunnel::carrier_seeds },
    Target { name: "proxy", run: tunnel::proxy, seeds: tunnel::proxy_seeds },
    Target { name: "connection-ids", run: tunnel::connection_ids, seeds: tunnel::connection_id_seeds },
    Target { name: "certificates", run: trust::certificate, seeds: trust::certificate_seeds },
    Target { name: "signing-requests", run: trust::signing_request, seeds: trust::signing_request_seeds },
    Target { name: "enrolment", run: trust::enrolment, seeds: trust::enrolment_seeds },
    Target { name: "receipts", run: money::receipts, seeds: money::receipt_seeds },
    Target { name: "redact", run: privacy::redact, seeds: privacy::text_seeds },
    Target { name: "redact-json", run: privacy::redact_json, seeds: privacy::json_seeds },
    Target { name: "restore", run: privacy::restore, seeds: privacy::answer_seeds },
    Target { name: "events", run: provider::events, seeds: provider::event_seeds },
    Target { name: "gguf", run: adapters::gguf, seeds: adapters::gguf_seeds },
    Target { name: "peft", run: adapters::peft, seeds: adapters::peft_seeds },
];

/// Runs one of them.
///
/// # Panics
/// When there is none of that name, or something does not hold.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("no target is called {name}")).run)(data);
}

/// The bytes in pieces of that length; 0 counts as 1.
fn pieces(bytes: &[u8], length: u8) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(usize::from(length.max(1)))
}
