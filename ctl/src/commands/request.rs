//! The request that `ask` sends and `route` judges: one set of options, so that both mean the same.

use std::path::Path;

use clap::Args;
use synesis_proto::control::v1::ask_request::Constraint;
use synesis_proto::control::v1::{AskRequest, Message, Mode};

use crate::failure::Failure;
use crate::input;

/// Prompt and options of `ask` and `route`.
#[derive(Debug, Args)]
pub(crate) struct RequestArgs {
    /// The prompt; - or nothing reads standard input
    prompt: Option<String>,

    /// Answer on this device only
    #[arg(long, group = "mode")]
    local: bool,

    /// Answer through the gateway; what is sensitive is redacted first
    #[arg(long, group = "mode")]
    cloud: bool,

    /// Let the routing rules decide, whatever the daemon's routing.policy says
    #[arg(long, group = "mode")]
    auto: bool,

    /// Use this adapter for this request; `none` is the base model. With --cloud, one that was pushed; else the answer is
    /// local
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,

    /// Apply the adapter more or less strongly, 0 to 10; 1 is as it was trained. Local answers only
    #[arg(long, value_name = "X", value_parser = adapter_scale)]
    adapter_scale: Option<f32>,

    /// End the answer after so many tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,

    /// A system prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,

    /// Randomness of the answer, 0 to 2; 0 always takes the likeliest token
    #[arg(long, value_name = "T", value_parser = temperature)]
    temperature: Option<f32>,

    /// Sample only from the likeliest tokens that make up this share, above 0 and up to 1
    #[arg(long, value_name = "P", value_parser = top_p)]
    top_p: Option<f32>,

    /// Sample only from the N likeliest tokens; 0 is all. Local answers only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    top_k: Option<u32>,

    /// Sample only from tokens at least so likely, relative to the likeliest, 0 to 1. Local answers only
    #[arg(long, value_name = "P", value_parser = min_p)]
    min_p: Option<f32>,

    /// Make tokens that were said less likely, up to 2; 0 and 1 do not. Local answers only
    #[arg(long, value_name = "X", value_parser = repeat_penalty)]
    repeat_penalty: Option<f32>,

    /// Make a random answer repeatable
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Continue this conversation; any name starts one
    #[arg(long, value_name = "ID")]
    session: Option<String>,

    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    /// Answer with JSON that this JSON Schema allows: a file, or the schema itself when it begins with {; {} is any JSON
    #[arg(long, value_name = "FILE|TEXT", conflicts_with = "grammar")]
    json_schema: Option<String>,

    /// Answer with text that this grammar allows (a file in the Lark dialect of llguidance). Local answers only
    #[arg(long, value_name = "FILE")]
    grammar: Option<String>,

    /// With --json, tell the log probability of every token and of its N likeliest alternatives, 0 to 20. Local answers only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=20))]
    logprobs: Option<u32>,

    /// Make the same tokens whatever else the model is doing; slower when others ask too. Local answers only
    #[arg(long)]
    deterministic: bool,

    /// Continue the prompt as it is, without a chat template; special tokens in it count. Local answers only
    #[arg(long, conflicts_with_all = ["system", "session"])]
    raw: bool,
}

impl RequestArgs {
    /// Reads the prompt and builds the request.
    ///
    /// # Errors
    /// [`Failure::EmptyPrompt`], or why the prompt cannot be read.
    pub(crate) async fn into_request(self) -> Result<AskRequest, Failure> {
        let mode = self.mode();
        let constraint = self.constraint().await?;
        let prompt = input::prompt(self.prompt).await?;
        let message = |role: &str, content| Message { role: role.to_owned(), content, ..Message::default() };
        let system = self.system.map(|content| message("system", content));
        Ok(AskRequest {
            messages: system.into_iter().chain([message("user", prompt)]).collect(),
            mode: mode.into(),
            adapter: self.adapter.unwrap_or_default(),
            max_tokens: self.max_tokens.unwrap_or_default(),
            temperature: self.temperature,
            top_p: self.top_p,
            seed: self.seed,
            session: self.session.unwrap_or_default(),
            stop: self.stop,
            top_k: self.top_k,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            constraint,
            logprobs: self.logprobs,
            deterministic: self.deterministic,
            adapter_scale: self.adapter_scale,
            raw: self.raw,
            ..AskRequest::default()
        })
    }

    /// Read here, because the daemon cannot open the user's files.
    async fn constraint(&self) -> Result<Option<Constraint>, Failure> {
        Ok(match (&self.json_schema, &self.grammar) {
            (Some(schema), _) if schema.trim_start().starts_with('{') => {
                Some(Constraint::JsonSchema(schema.clone()))
            }
            (Some(file), _) => Some(Constraint::JsonSchema(input::small_file(Path::new(file)).await?)),
            (None, Some(file)) => Some(Constraint::Grammar(input::small_file(Path::new(file)).await?)),
            (None, None) => None,
        })
    }

    /// clap lets at most one of the three through.
    fn mode(&self) -> Mode {
        match (self.local, self.cloud, self.auto) {
            (true, _, _) => Mode::Local,
            (_, true, _) => Mode::Cloud,
            (_, _, true) => Mode::Auto,
            _ => Mode::Unspecified,
        }
    }
}

fn temperature(text: &str) -> Result<f32, String> {
    within(text, 0.0, 2.0)
}

fn min_p(text: &str) -> Result<f32, String> {
    within(text, 0.0, 1.0)
}

fn repeat_penalty(text: &str) -> Result<f32, String> {
    within(text, 0.0, 2.0)
}

fn adapter_scale(text: &str) -> Result<f32, String> {
    within(text, 0.0, 10.0)
}

fn top_p(text: &str) -> Result<f32, String> {
    number(text)
        .filter(|value| *value > 0.0 && *value <= 1.0)
        .ok_or_else(|| "expected a number above 0 and up to 1".to_owned())
}

fn within(text: &str, least: f32, most: f32) -> Result<f32, String> {
    number(text)
        .filter(|value| (least..=most).contains(value))
        .ok_or_else(|| format!("expected a number from {least} to {most}"))
}

fn number(text: &str) -> Option<f32> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_their_range_are_refused() {
        for text in ["-0.1", "2.1", "NaN", "inf", "warm", ""] {
            assert!(temperature(text).is_err(), "{text}");
        }
        assert_eq!([temperature("0"), temperature("2"), top_p("1")], [Ok(0.0), Ok(2.0), Ok(1.0)]);
        assert!(top_p("0").is_err() && top_p("1.1").is_err());
        assert!(min_p("1.1").is_err() && repeat_penalty("-1").is_err() && adapter_scale("NaN").is_err());
        assert_eq!([min_p("1"), repeat_penalty("2"), adapter_scale("10")], [Ok(1.0), Ok(2.0), Ok(10.0)]);
    }
}
