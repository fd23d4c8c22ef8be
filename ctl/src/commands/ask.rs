//! `ask`: one request, its answer streamed as it is made, and what it took at the end.

use serde::Serialize;
use synesis_proto::control::v1::ask_event::Event;
use synesis_proto::control::v1::done::Receipt;
use synesis_proto::control::v1::{Delta, Done, Origin, TokenLogprob};
use synesis_proto::{Problem, reason};
use tonic::Code;

use super::request::RequestArgs;
use crate::connect::Context;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::receipt::{self, ReceiptJson};
use crate::units;
use crate::view::present;

const SCHEMA: &str = "synesis.ask/1";

pub(crate) async fn run(
    arguments: RequestArgs,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let request = arguments.into_request().await?;
    let mut events = context.connect().await?.inference().ask(request).await?.into_inner();
    let mut answer = String::new();
    let mut done = None;
    while let Some(event) = output.next(&mut events).await? {
        match event.event {
            Some(Event::Delta(delta)) => match output.format() {
                Format::Human => output.text(&delta.text).await?,
                Format::Json => {
                    answer.push_str(&delta.text);
                    output.json([Line::delta(delta)]).await?;
                }
            },
            Some(Event::Done(event)) => done = Some(event),
            // Where it runs is told at the end; an event that this version does not know is not for it.
            Some(Event::Routed(_)) | None => {}
        }
    }
    match done {
        Some(done) => finish(done, answer, output).await,
        None => Err(Failure::Protocol("the answer ended without saying so".to_owned())),
    }
}

async fn finish(done: Done, answer: String, output: &mut Output) -> Result<(), Failure> {
    let receipt = receipt_of(&done);
    output.end_line().await;
    output.note(&footer(&done, receipt.as_ref()));
    // A cut answer is worth showing, and must not look whole to a script.
    let fault = receipt.as_ref().and_then(ReceiptJson::fault).or_else(|| cut(&done.finish_reason));
    if output.format() == Format::Json {
        output.json([Line::done(done, answer, receipt)]).await?;
    }
    fault.map_or(Ok(()), Err)
}

/// Why the answer ended before its time, if it did; running into the token limit is what was asked for.
fn cut(finish_reason: &str) -> Option<Failure> {
    let (reason, message) = match finish_reason {
        "provider_error" => {
            (reason::PROVIDER_FAILED, "the model provider failed in the middle of the answer")
        }
        "cancelled" => (reason::INTERRUPTED, "the gateway ended the answer before it was complete"),
        _ => return None,
    };
    let next_step = "ask again; only what was made is charged";
    Some(Failure::Refused(Problem::new(Code::Unavailable, reason, message, next_step)))
}

/// What came as the receipt, if this answer has one.
fn receipt_of(done: &Done) -> Option<ReceiptJson> {
    match done.receipt.as_ref()? {
        Receipt::Pending(pending) => pending.then(ReceiptJson::pending),
        Receipt::SignedReceipt(bytes) => Some(receipt::decode(bytes, &done.request_id).into()),
    }
}

/// One line about the answer: `cloud · gemma · 12 + 34 tokens · 1.4 s (first after 87 ms) · $0.000012345`.
fn footer(done: &Done, receipt: Option<&ReceiptJson>) -> String {
    let usage = done.usage.unwrap_or_default();
    let origin = origin(done).unwrap_or("answered");
    let model = match done.adapter.as_str() {
        "" => done.model.clone(),
        adapter => format!("{} + {adapter}", done.model),
    };
    let cached = match done.cached_tokens {
        0 => String::new(),
        cached => format!(" ({cached} cached)"),
    };
    let tokens = format!("{}{cached} + {} tokens", usage.input_tokens, usage.output_tokens);
    let time =
        format!("{} (first after {})", units::duration(done.total_ms), units::duration(done.first_token_ms));
    let mut parts = vec![origin.to_owned(), model, tokens, time];
    parts.extend(receipt.map(ReceiptJson::cost));
    if done.finish_reason == "length" {
        parts.push("cut at the token limit".to_owned());
    }
    if done.unknown_placeholders > 0 {
        parts.push(format!("{} unknown placeholders left in the text", done.unknown_placeholders));
    }
    parts.join(" · ")
}

fn origin(done: &Done) -> Option<&'static str> {
    match done.origin() {
        Origin::Local => Some("local"),
        Origin::Cloud => Some("cloud"),
        Origin::Unspecified => None,
    }
}

/// The JSON lines of the contract.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    Delta(DeltaLine),
    Done(Box<DoneLine>),
}

#[derive(Debug, Serialize)]
struct DeltaLine {
    schema: &'static str,
    text: String,
    /// Of the tokens since the last line; only with `--logprobs`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logprobs: Vec<LogprobJson>,
}

/// A token and the natural logarithm of its probability. `token` is for reading: a token may be a part of a character,
/// and then only `bytes` tells which.
#[derive(Debug, Serialize)]
struct LogprobJson {
    token: String,
    bytes: Vec<u8>,
    logprob: f32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top: Vec<LogprobJson>,
}

impl From<TokenLogprob> for LogprobJson {
    fn from(token: TokenLogprob) -> Self {
        Self {
            logprob: token.logprob,
            top: token.top.into_iter().map(Self::from).collect(),
            bytes: token.token.to_vec(),
            token: String::from_utf8_lossy(&token.token).into_owned(),
        }
    }
}

#[derive(Debug, Serialize)]
struct DoneLine {
    schema: &'static str,
    text: String,
    origin: Option<&'static str>,
    reason: Option<String>,
    model: Option<String>,
    adapter: Option<String>,
    adapter_generation: u64,
    usage: UsageJson,
    first_token_ms: u64,
    total_ms: u64,
    request_id: String,
    finish_reason: Option<String>,
    /// The calls of tools, the array of the OpenAI API.
    tool_calls: Option<serde_json::Value>,
    /// Of a local answer's tokens, natural logarithm.
    mean_logprob: Option<f32>,
    /// Of the prompt, taken from an earlier request's cache.
    cached_tokens: u32,
    queued_ms: u64,
    unknown_placeholders: u32,
    receipt: Option<ReceiptJson>,
}

#[derive(Debug, Serialize)]
struct UsageJson {
    input_tokens: u32,
    output_tokens: u32,
}

impl Line {
    fn delta(delta: Delta) -> Self {
        let logprobs = delta.logprobs.into_iter().map(LogprobJson::from).collect();
        Self::Delta(DeltaLine { schema: SCHEMA, text: delta.text, logprobs })
    }

    fn done(done: Done, text: String, receipt: Option<ReceiptJson>) -> Self {
        let usage = done.usage.unwrap_or_default();
        Self::Done(Box::new(DoneLine {
            schema: SCHEMA,
            text,
            origin: origin(&done),
            reason: present(done.reason),
            model: present(done.model),
            adapter: present(done.adapter),
            adapter_generation: done.adapter_generation,
            usage: UsageJson { input_tokens: usage.input_tokens, output_tokens: usage.output_tokens },
            first_token_ms: units::whole_ms(done.first_token_ms),
            total_ms: units::whole_ms(done.total_ms),
            request_id: done.request_id,
            finish_reason: present(done.finish_reason),
            tool_calls: serde_json::from_str(&done.tool_calls_json).ok(),
            mean_logprob: done.mean_logprob,
            cached_tokens: done.cached_tokens,
            queued_ms: units::whole_ms(done.queued_ms),
            unknown_placeholders: done.unknown_placeholders,
            receipt,
        }))
    }
}
