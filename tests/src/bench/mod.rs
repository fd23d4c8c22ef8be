//! What the benches are made of: two sides that answer the same questions, [`Ours`] (a whole daemon) and [`Peer`]
//! (llama.cpp's own server), measured in turns by one client, and the [`Report`] of it.

mod adapters;
mod answer;
mod bare;
pub(crate) mod built;
mod burst;
pub(crate) mod http;
pub(crate) mod machine;
mod ours;
mod peer;
mod prompts;
mod report;
mod rivals;
pub mod rows;
pub(crate) mod statistics;
pub(crate) mod usage;

pub use answer::{Answer, Question, Side};
pub use machine::machine;
pub use ours::Ours;
pub use peer::{Peer, PeerKit};
pub use report::{Goal, Report, Row};

/// Threads of the model on either side.
pub const THREADS: u32 = 2;
/// Context of one request, in tokens, on either side.
pub const CONTEXT_TOKENS: u32 = 2048;
