//! What the engine is asked, and what it says.

use std::time::Duration;

use super::Sampling;
use crate::constraint::Source;
use crate::prompt::Input;

/// Most alternatives whose log probabilities come with a token.
pub(crate) const MOST_ALTERNATIVES: usize = 20;

/// A request for an answer.
pub(crate) struct Generate {
    /// For the log only.
    pub(crate) request_id: String,
    pub(crate) input: Input,
    pub(crate) adapter: Option<AdapterChoice>,
    /// `None`: up to the end of the context.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    /// The queue is fair between owners.
    pub(crate) owner: String,
    pub(crate) batching: Batching,
    /// Log probabilities of every token, and of so many alternatives.
    pub(crate) logprobs: Option<usize>,
    /// What the answer is held to.
    pub(crate) shape: Option<Source>,
}

/// Whether a request may share what is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batching {
    /// Batches and kept prefixes. With weights of most quantisations the answer is the same bit for bit; see
    /// [`crate::llama::Context`].
    Shared,
    /// Alone in its batches, from an empty sequence, in chunks of one size: the same tokens under any load,
    /// whatever the weights.
    Alone,
}

/// A loaded adapter, and how strongly it is applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AdapterChoice {
    pub(crate) id: String,
    pub(crate) scale: f32,
}

/// What happens to a request, in this order: one `Started`, any number of `Delta`s, one `Finished`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Started(Start),
    Delta(Delta),
    Finished(Summary),
}

/// A request has a sequence now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) input_tokens: usize,
    /// Of them, those that need not be computed again.
    pub(crate) cached_tokens: usize,
    pub(crate) queued: Duration,
}

/// More of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delta {
    pub(crate) text: String,
    /// So far.
    pub(crate) output_tokens: usize,
    /// Of the tokens since the last delta, when they were asked for.
    pub(crate) logprobs: Vec<TokenLogprob>,
}

/// How likely a token was.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenLogprob {
    /// May be a part of a character.
    pub(crate) bytes: Vec<u8>,
    /// Natural logarithm of the model's own probability.
    pub(crate) logprob: f32,
    /// The likeliest tokens, with theirs, in falling order.
    pub(crate) top: Vec<(Vec<u8>, f32)>,
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    pub(crate) reason: FinishReason,
    pub(crate) start: Start,
    /// Without the token that ended the turn.
    pub(crate) output_tokens: usize,
    pub(crate) prefill: Duration,
    pub(crate) generation: Duration,
    /// Natural logarithm, mean over the sampled tokens, the ending one included; 0 when there were none.
    pub(crate) mean_logprob: f32,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinishReason {
    /// The model ended its turn, a stop string came, or the shape of the answer is complete.
    Stop,
    /// The limit of the request or the end of the window. The window is never shifted: that would silently
    /// forget the beginning of the conversation, which is where its instructions are.
    Length,
}

/// What `Warm` led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Warmed {
    pub(crate) tokens: usize,
    /// That were there already.
    pub(crate) cached_tokens: usize,
    pub(crate) prefill: Duration,
}

/// The vector of a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Vector {
    /// Of length one.
    pub(crate) values: Vec<f32>,
    /// Of the text.
    pub(crate) tokens: usize,
}

/// A size, and what it has to fit in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) tokens: usize,
    pub(crate) context_tokens: usize,
}
