//! One question, one answer with its times, and what both sides can do.

use std::time::Duration;

use tokio::time::Instant;

/// A prompt of one user turn; the answer is greedy on both sides.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The user's words.
    pub prompt: &'a str,
    /// Longest answer.
    pub max_tokens: u32,
    /// The adapter this request names; none: whatever is active.
    pub adapter: Option<&'a str>,
}

impl<'a> Question<'a> {
    /// With the active adapter.
    pub fn new(prompt: &'a str, max_tokens: u32) -> Self {
        Self { prompt, max_tokens, adapter: None }
    }
}

/// What came back, as its reader saw it. Times count from just before the request was sent.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Until the first piece of text.
    pub first: Duration,
    /// Until the last piece of text.
    pub last: Duration,
    /// Tokens of the prompt, template included.
    pub input_tokens: u32,
    /// Tokens of the answer.
    pub output_tokens: u32,
    /// The text.
    pub text: String,
    /// Adapter swaps before it; ours only.
    pub generation: u64,
}

impl Answer {
    /// Tokens per second between the first piece and the last.
    pub fn tokens_per_second(&self) -> f64 {
        f64::from(self.output_tokens.saturating_sub(1)) / (self.last - self.first).as_secs_f64()
    }

    /// Until the first piece, in milliseconds.
    pub fn first_ms(&self) -> f64 {
        self.first.as_secs_f64() * 1e3
    }

    /// Notes a piece of text that has just arrived.
    pub(super) fn push(&mut self, text: &str, asked: Instant) {
        if text.is_empty() {
            return;
        }
        self.last = asked.elapsed();
        if self.text.is_empty() {
            self.first = self.last;
        }
        self.text.push_str(text);
    }
}

/// Something that answers and swaps adapters. A failure is a panic: a bench with a hole in it shows nothing.
pub trait Side {
    /// Reads the whole answer.
    fn ask(&self, question: Question<'_>) -> impl Future<Output = Answer>;

    /// Makes the adapter (`None`: the base model) the one of all requests from now on; how long that took.
    fn swap(&self, adapter: Option<&str>) -> impl Future<Output = Duration>;
}
