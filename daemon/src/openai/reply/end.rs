//! What an answer's end tells: usage, why it ended, what made it, and what it cost.

use serde::Serialize;
use synesis_ledger::SignedReceipt;

use super::Head;
use crate::ask::{Done, Receipt, Route};

/// Tokens.
#[derive(Debug, Serialize)]
pub(super) struct Usage {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: PromptTokens,
}

#[derive(Debug, Serialize)]
struct PromptTokens {
    cached_tokens: u32,
}

impl From<&Done> for Usage {
    fn from(done: &Done) -> Self {
        Self {
            prompt_tokens: done.input_tokens,
            completion_tokens: done.output_tokens,
            total_tokens: done.input_tokens.saturating_add(done.output_tokens),
            prompt_tokens_details: PromptTokens { cached_tokens: done.cached_tokens },
        }
    }
}

/// What the OpenAI API has no words for; its clients ignore it.
#[derive(Debug, Serialize)]
pub(super) struct Extra {
    origin: &'static str,
    reason: &'static str,
    model: String,
    adapter: String,
    adapter_generation: u64,
    request_id: String,
    receipt: Option<Proof>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Proof {
    Pending(&'static str),
    Stored(Box<SignedReceipt>),
}

impl Extra {
    pub(super) fn new(head: &Head, done: Done) -> Self {
        Self {
            origin: match done.route {
                Route::Local(_) => "local",
                Route::Cloud(_) => "cloud",
            },
            reason: done.route.reason(),
            model: done.model,
            adapter: done.adapter,
            adapter_generation: done.adapter_generation,
            request_id: head.request.to_string(),
            receipt: match done.receipt {
                Receipt::Free => None,
                Receipt::Pending => Some(Proof::Pending("pending")),
                Receipt::Stored(signed) => Some(Proof::Stored(signed)),
            },
        }
    }
}

/// Answers with the same fingerprint come from the same model with the same adapter.
pub(super) fn fingerprint(done: &Done) -> String {
    format!("fp_{}_g{}", done.model, done.adapter_generation)
}

/// In OpenAI's words. An answer that was cancelled has no reader who could be told.
pub(super) fn finish_reason(done: &Done, calls: usize) -> &'static str {
    match done.finish_reason.as_str() {
        "length" => "length",
        "content_filter" => "content_filter",
        _ if calls > 0 => "tool_calls",
        _ => "stop",
    }
}
