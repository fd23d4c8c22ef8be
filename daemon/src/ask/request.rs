//! What can be asked: one request, parsed, in clear text.

use synesis_privacy::Message;

use crate::route::Mode;

/// One request, parsed. The default asks nothing and wants nothing special.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Whose sessions it may use, and whose turn in the queue it takes.
    pub uid: u32,
    /// In clear text, the new turn last.
    pub messages: Vec<Message>,
    /// Where it may run.
    pub mode: Mode,
    /// `""`: the active adapter; `"none"`: the base model.
    pub adapter: String,
    /// How strongly the adapter is applied; none: 1.
    pub adapter_scale: Option<f32>,
    /// None: `model.max_tokens`.
    pub max_tokens: Option<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What the answer has to look like.
    pub constraint: Option<Constraint>,
    /// Log probabilities with every token, and of this many alternatives.
    pub logprobs: Option<u32>,
    /// The same tokens under any load.
    pub deterministic: bool,
    /// Empty: none.
    pub session: String,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Tool definitions, the array of the OpenAI API.
    pub tools: Option<String>,
    /// The one message is continued as it is, without a chat template.
    pub raw: bool,
}

/// How tokens are chosen. What is none is the configuration's, the model's or the provider's default.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sampling {
    /// 0 is greedy; none: `model.temperature`.
    pub temperature: Option<f32>,
    /// Nucleus sampling.
    pub top_p: Option<f32>,
    /// The likeliest so many.
    pub top_k: Option<u32>,
    /// Those at least so likely, relative to the likeliest.
    pub min_p: Option<f32>,
    /// Above 1: what was said is less likely.
    pub repeat_penalty: Option<f32>,
    /// Once for a token that was said.
    pub presence_penalty: Option<f32>,
    /// For each time that it was said.
    pub frequency_penalty: Option<f32>,
    /// For repeatable sampling.
    pub seed: Option<u64>,
}

/// What the answer has to look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    /// JSON that the schema allows; `{}` is any JSON.
    JsonSchema(String),
    /// In the Lark dialect of llguidance.
    Grammar(String),
}

/// A token of the answer and how likely it was.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// May be a part of a UTF-8 character.
    pub token: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens at its place, likeliest first; theirs are empty.
    pub top: Vec<TokenLogprob>,
}
