//! What an ask gives back: where it runs, its pieces, and how it ended.

use std::time::Duration;

use synesis_ledger::SignedReceipt;

use super::TokenLogprob;
use crate::route::{CloudWhy, LocalWhy};

/// What the caller of an ask sees, in this order: one `Routed`, any number of `Delta`, one `Done`.
#[derive(Debug, Clone)]
pub enum AskEvent {
    /// Where it runs. It comes with the first piece, because until then that can change.
    Routed(Route),
    /// The next piece of the answer.
    Delta(Delta),
    /// The end.
    Done(Box<Done>),
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Delta {
    /// The text; empty when it is held back for now.
    pub text: String,
    /// Of the tokens since the last piece, when the request asked for them.
    pub logprobs: Vec<TokenLogprob>,
}

impl From<String> for Delta {
    fn from(text: String) -> Self {
        Self { text, logprobs: Vec::new() }
    }
}

/// Where a prompt runs and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Here.
    Local(LocalWhy),
    /// In the cloud.
    Cloud(CloudWhy),
}

impl Route {
    /// Stable, machine-readable.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Local(why) => why.as_str(),
            Self::Cloud(why) => why.as_str(),
        }
    }
}

/// A finished answer.
#[derive(Debug, Clone)]
pub struct Done {
    /// Where it ran.
    pub route: Route,
    /// The model that answered.
    pub model: String,
    /// The adapter it ran with; empty: none.
    pub adapter: String,
    /// Its generation; 0: none.
    pub adapter_generation: u64,
    /// Tokens of the prompt.
    pub input_tokens: u32,
    /// Tokens of the answer.
    pub output_tokens: u32,
    /// From the request to the first piece.
    pub to_first: Duration,
    /// From the request to the end.
    pub total: Duration,
    /// `stop`, `length`, `tool_calls` or `cancelled`.
    pub finish_reason: String,
    /// What it cost.
    pub receipt: Receipt,
    /// Placeholders in the answer that stand for nothing we hid.
    pub unknown_placeholders: u32,
    /// The calls of tools in the answer, the array of the OpenAI API.
    pub tool_calls: Option<String>,
    /// Of a local answer's tokens, natural logarithm.
    pub mean_logprob: Option<f32>,
    /// Tokens of the prompt that came from an earlier request's cache.
    pub cached_tokens: u32,
    /// Waited for the local model.
    pub queued: Duration,
}

/// The proof of an answer's cost.
#[derive(Debug, Clone)]
pub enum Receipt {
    /// A local answer is free.
    Free,
    /// It has not arrived; it is reconciled by request id.
    Pending,
    /// Verified and stored.
    Stored(Box<SignedReceipt>),
}
