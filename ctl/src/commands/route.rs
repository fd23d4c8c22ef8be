//! `route`: where a request would run, and why; and the decisions that were made, to read or to make again.

mod log;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use synesis_proto::control::v1::RouteReply;

use super::request::RequestArgs;
use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::view::{Style, View, present};

/// A prompt to explain, or the decisions that were made.
#[derive(Debug, Args)]
pub(crate) struct RouteArgs {
    #[command(flatten)]
    request: RequestArgs,

    /// Print the daemon's newest decisions instead, oldest first; with --json as lines that --replay reads
    #[arg(long, conflicts_with_all = ["RequestArgs", "replay"])]
    log: bool,

    /// With --log or --replay: only the newest N of the daemon's decisions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,

    /// Decide recorded decisions again and compare: those in FILE (- is standard input), else the daemon's own. Fails when one is decided differently or cannot be read
    #[arg(long, value_name = "FILE", num_args = 0..=1, conflicts_with = "RequestArgs")]
    replay: Option<Option<PathBuf>>,
}

impl RouteArgs {
    pub(crate) fn patience(&self) -> Option<Duration> {
        if self.log || self.replay.is_some() { super::UNLIMITED } else { super::QUICK }
    }
}

pub(crate) async fn run(arguments: RouteArgs, context: &Context, output: &mut Output) -> Result<(), Failure> {
    let RouteArgs { request, log, limit, replay } = arguments;
    if limit.is_some() && !log && replay.is_none() {
        return Err(Failure::Usage {
            message: "--limit goes with --log or --replay".to_owned(),
            next_step: "leave it out, or ask for the decisions: synctl route --log --limit 20",
        });
    }
    let limit = limit.unwrap_or_default();
    match replay {
        _ if log => log::print(limit, context, output).await,
        Some(file) => log::replay(file, limit, context, output).await,
        None => explain(request, context, output).await,
    }
}

async fn explain(request: RequestArgs, context: &Context, output: &mut Output) -> Result<(), Failure> {
    let request = request.into_request().await?;
    let reply = context.connect().await?.inference().route(request).await?.into_inner();
    output.print(&RouteView::from(reply)).await
}

#[derive(Debug, Serialize)]
struct RouteView {
    schema: &'static str,
    decision: String,
    reason: String,
    explanation: Option<String>,
    next_step: Option<String>,
    input_tokens: Option<u32>,
    /// Everything it was decided on, as it would be recorded.
    inputs: Option<Value>,
}

impl From<RouteReply> for RouteView {
    fn from(reply: RouteReply) -> Self {
        Self {
            schema: "synesis.route/1",
            decision: reply.decision,
            reason: reply.reason,
            explanation: present(reply.explanation),
            next_step: present(reply.next_step),
            input_tokens: Some(reply.input_tokens).filter(|tokens| *tokens > 0),
            inputs: serde_json::from_str(&reply.inputs_json).ok(),
        }
    }
}

impl View for RouteView {
    fn human(&self, style: Style) -> String {
        let explanation = self.explanation.as_deref().unwrap_or("no explanation");
        let mut text = format!("{}  {explanation} ({})", style.state(&self.decision, 0), self.reason);
        if let Some(tokens) = self.input_tokens {
            text.push_str(&format!("\nprompt {tokens} tokens"));
        }
        for (name, value) in self.inputs.iter().flat_map(rows) {
            text.push_str(&format!("\n{}", style.faint(&format!("{name:<20} {value}"))));
        }
        if let Some(next) = &self.next_step {
            text.push_str(&format!("\n{} {next}", style.strong("next:")));
        }
        text
    }
}

/// What a person wants to know of the inputs: neither what was not measured, nor the thresholds that are off.
fn rows(inputs: &Value) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for (name, value) in inputs.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Object(inner) if name == "thresholds" => {
                let set = inner.iter().filter(|(_, value)| value.as_u64() != Some(0));
                rows.extend(set.map(|(name, value)| readable(name, value)));
            }
            value => rows.push(readable(name, value)),
        }
    }
    rows
}

/// Millionths as a share; anything else as it is.
fn readable(name: &str, value: &Value) -> (String, String) {
    match (name.strip_suffix("_ppm"), value.as_f64(), value.as_str()) {
        (Some(name), Some(millionths), _) => (name.to_owned(), format!("{:.3}", millionths / 1e6)),
        (_, _, Some(word)) => (name.to_owned(), word.to_owned()),
        _ => (name.to_owned(), value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_inputs_that_say_something_are_shown() {
        let inputs = json!({
            "model": "ready", "wait_ms": null, "memory_ppm": 410_000, "budget_left": true,
            "fit": {"too_long": {"tokens": 3000, "window": 2048}},
            "thresholds": {"min_confidence_ppm": 600_000, "max_wait_ms": 0},
        });
        let mut rows = rows(&inputs);
        rows.sort();
        let expected = [
            ("budget_left", "true"),
            ("fit", r#"{"too_long":{"tokens":3000,"window":2048}}"#),
            ("memory", "0.410"),
            ("min_confidence", "0.600"),
            ("model", "ready"),
        ];
        assert_eq!(rows, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
