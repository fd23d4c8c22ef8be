//! The request that `ask` sends and `route` judges: one set of options, so that both mean the same.

use clap::Args;
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

    /// Use this adapter for this request; `none` is the base model
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,

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

    /// Make a random answer repeatable
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Continue this conversation; any name starts one
    #[arg(long, value_name = "ID")]
    session: Option<String>,

    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

impl RequestArgs {
    /// Reads the prompt and builds the request.
    ///
    /// # Errors
    /// [`Failure::EmptyPrompt`], or why the prompt cannot be read.
    pub(crate) async fn into_request(self) -> Result<AskRequest, Failure> {
        let mode = self.mode();
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
            ..AskRequest::default()
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
    number(text)
        .filter(|value| (0.0..=2.0).contains(value))
        .ok_or_else(|| "expected a number from 0 to 2".to_owned())
}

fn top_p(text: &str) -> Result<f32, String> {
    number(text)
        .filter(|value| *value > 0.0 && *value <= 1.0)
        .ok_or_else(|| "expected a number above 0 and up to 1".to_owned())
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
    }
}
