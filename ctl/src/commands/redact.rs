//! `redact`: what would leave the device. One text with its spans, or a stream of texts line by line.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use synesis_proto::control::v1::{PreviewReply, PreviewRequest};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use crate::connect::Context;
use crate::failure::Failure;
use crate::feed::{self, OnFailure};
use crate::input::{MAX_TEXT_BYTES, Source};
use crate::output::Output;
use crate::view::{Style, View, table};

/// Answers that are there already are written together, up to so many.
const WRITE_TOGETHER: usize = 256;

/// JSON may write one character in six (`\u0000`), and has its braces.
const MAX_LINE_BYTES: u64 = 6 * MAX_TEXT_BYTES + 1024;

/// What to preview.
#[derive(Debug, Args)]
pub(crate) struct RedactArgs {
    /// The text; - or nothing reads standard input
    file: Option<PathBuf>,

    /// Read one {"text": "..."} object per line and print one JSON result per line, in order
    #[arg(long)]
    lines: bool,
}

impl RedactArgs {
    pub(crate) fn patience(&self) -> Option<Duration> {
        if self.lines { super::UNLIMITED } else { super::QUICK }
    }
}

pub(crate) async fn run(
    arguments: RedactArgs,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let source = Source::named(arguments.file)?;
    match arguments.lines {
        true => many(&source, context, output).await,
        false => {
            let text = source.text().await?;
            let request = PreviewRequest { text };
            let reply = context.connect().await?.privacy().preview(request).await?.into_inner();
            output.print(&PreviewView::from(reply)).await
        }
    }
}

/// Previews line after line. HTTP/2 flow control bounds what is under way; a slow reader of the results slows
/// down the reading of the file.
async fn many(source: &Source, context: &Context, output: &mut Output) -> Result<(), Failure> {
    let reader = source.open().await?;
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let requests = requests(reader, source.name()).inspect(move |request| {
        count.fetch_add(u64::from(request.is_ok()), Ordering::Relaxed);
    });
    let (requests, mut failed) = feed::split(requests, OnFailure::End);
    let replies = context.connect().await?.privacy().preview_many(requests).await?.into_inner();
    let mut answered = 0;
    let mut batches = replies.ready_chunks(WRITE_TOGETHER);
    while let Some(batch) = batches.next().await {
        let mut results = Vec::with_capacity(batch.len());
        let mut broken = None;
        for reply in batch {
            match reply {
                Ok(reply) => results.push(PreviewView::from(reply)),
                Err(status) => broken = Some(Failure::from(status)),
            }
        }
        answered += results.len() as u64;
        output.json(results).await?;
        broken.map_or(Ok(()), Err)?;
    }
    if let Ok(failure) = failed.try_recv() {
        return Err(failure);
    }
    match asked.load(Ordering::Relaxed) {
        asked if asked == answered => Ok(()),
        asked => Err(Failure::Protocol(format!("{asked} texts were sent, {answered} results came back"))),
    }
}

#[derive(Deserialize)]
struct InputLine {
    text: String,
}

type Lines = Box<dyn AsyncBufRead + Send + Unpin>;

/// The requests in a file, one line after the other; a line that is none ends them with its number.
fn requests(reader: Lines, name: String) -> impl Stream<Item = Result<PreviewRequest, Failure>> + Send {
    stream::try_unfold((reader, name, 1_u64), |(mut reader, name, number)| async move {
        let Some(line) = next_line(&mut reader, &name, number).await? else { return Ok(None) };
        let text = parse_line(&line, number)?;
        Ok(Some((PreviewRequest { text }, (reader, name, number + 1))))
    })
}

async fn next_line(reader: &mut Lines, name: &str, number: u64) -> Result<Option<Vec<u8>>, Failure> {
    let mut line = Vec::new();
    let read = reader.take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line).await;
    match read.map_err(|source| Failure::Unreadable { what: name.to_owned(), source })? {
        0 => Ok(None),
        length if length as u64 > MAX_LINE_BYTES => Err(bad_line(number, "is too long")),
        _ => Ok(Some(line)),
    }
}

fn parse_line(line: &[u8], number: u64) -> Result<String, Failure> {
    // What is wrong with it is told by position only: the text itself may be sensitive.
    let parsed: InputLine = serde_json::from_slice(line).map_err(|cause| {
        bad_line(
            number,
            &format!("is not a JSON object with a string \"text\" (see column {})", cause.column()),
        )
    })?;
    match parsed.text.len() as u64 > MAX_TEXT_BYTES {
        true => Err(bad_line(number, &format!("has a text of more than {MAX_TEXT_BYTES} bytes"))),
        false => Ok(parsed.text),
    }
}

fn bad_line(number: u64, what: &str) -> Failure {
    Failure::BadInput {
        what: format!("line {number} {what}"),
        next_step: "correct the line; the results of the lines before it are complete",
    }
}

#[derive(Debug, Serialize)]
struct PreviewView {
    schema: &'static str,
    text: String,
    spans: Vec<SpanJson>,
    detector_version: String,
}

#[derive(Debug, Serialize)]
struct SpanJson {
    r#type: String,
    start: u64,
    end: u64,
    placeholder: String,
    rule: String,
}

impl From<PreviewReply> for PreviewView {
    fn from(reply: PreviewReply) -> Self {
        let spans = reply.spans.into_iter().map(|span| SpanJson {
            r#type: span.r#type,
            start: span.start,
            end: span.end,
            placeholder: span.placeholder,
            rule: span.rule,
        });
        Self {
            schema: "synesis.redact/1",
            text: reply.text,
            spans: spans.collect(),
            detector_version: reply.detector_version,
        }
    }
}

impl View for PreviewView {
    fn human(&self, style: Style) -> String {
        let text = self.text.trim_end_matches('\n');
        if self.spans.is_empty() {
            return format!("{text}\n\n{}", style.faint("nothing to hide was found"));
        }
        let rows: Vec<[String; 4]> = self
            .spans
            .iter()
            .map(|span| {
                let place = format!("{}..{}", span.start, span.end);
                [span.r#type.clone(), place, span.placeholder.clone(), span.rule.clone()]
            })
            .collect();
        format!("{text}\n\n{}", table(["TYPE", "BYTES", "PLACEHOLDER", "RULE"], &rows, style))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn texts(input: &'static [u8]) -> Vec<Result<String, String>> {
        let lines = requests(Box::new(input), "input".to_owned());
        lines
            .map(|line| line.map(|request| request.text).map_err(|failure| failure.to_string()))
            .collect()
            .await
    }

    #[tokio::test]
    async fn each_line_is_one_text_whatever_else_the_object_holds() {
        let input = b"{\"text\":\"a\",\"id\":1}\r\n{\"text\":\"b\\nc\"}";
        assert_eq!(texts(input).await, [Ok("a".to_owned()), Ok("b\nc".to_owned())]);
    }

    #[tokio::test]
    async fn a_bad_line_ends_the_stream_with_its_number() {
        for bad in ["\n", "{}\n", "[1]\n", "{\"text\":7}\n", "{\"text\":\"x\"\n", "\u{1}\n"] {
            let input: &'static str =
                Box::leak(format!("{{\"text\":\"a\"}}\n{bad}{{\"text\":\"b\"}}\n").into());
            let lines = texts(input.as_bytes()).await;
            assert_eq!(lines.len(), 2, "{bad:?}: {lines:?}");
            assert!(
                matches!(lines.last(), Some(Err(message)) if message.starts_with("line 2 ")),
                "{lines:?}"
            );
        }
    }

    #[tokio::test]
    async fn the_error_does_not_repeat_the_line() {
        let lines = texts(b"{\"text\":123456}\n").await;
        assert!(matches!(lines.first(), Some(Err(message)) if !message.contains("123456")), "{lines:?}");
    }
}
