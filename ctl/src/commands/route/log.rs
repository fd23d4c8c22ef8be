//! The decisions that were made: printed, or handed back to the daemon to be made again.

use std::path::PathBuf;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::Value;
use synesis_proto::control::v1::{Decision, DecisionsRequest, Replayed};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use crate::connect::{Context, Daemon};
use crate::failure::Failure;
use crate::feed::{self, OnFailure};
use crate::input::Source;
use crate::output::{Format, Output};
use crate::view::present;

/// A recorded line is far shorter. What is longer is handed on in pieces, and each is told to be damaged.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Prints the daemon's newest decisions, oldest first; `limit` 0 is all.
pub(super) async fn print(limit: u32, context: &Context, output: &mut Output) -> Result<(), Failure> {
    let daemon = context.connect().await?;
    let mut decisions = daemon.inference().decisions(DecisionsRequest { limit }).await?.into_inner();
    while let Some(decision) = output.next(&mut decisions).await? {
        match output.format() {
            // To the letter: this is what is replayed.
            Format::Json => output.write((decision.json + "\n").as_bytes()).await?,
            Format::Human => output.text(&(line(&decision.json) + "\n")).await?,
        }
    }
    Ok(())
}

/// One decision on one line: when, where, why, for which request.
fn line(json: &str) -> String {
    let record: Value = serde_json::from_str(json).unwrap_or_default();
    let word = |key: &str| record[key].as_str().unwrap_or("?").to_owned();
    let (at, decision, reason) = (word("at"), word("decision"), word("reason"));
    let evidence = match record["evidence"].as_array() {
        Some(evidence) if !evidence.is_empty() => format!("  {}", record["evidence"]),
        _ => String::new(),
    };
    format!("{at:<30}  {decision:<6}  {reason:<26}  {}{evidence}", word("request_id"))
}

/// Has decisions made again: those in `file`, or the newest of the daemon's own.
pub(super) async fn replay(
    file: Option<PathBuf>,
    limit: u32,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let source = file.map(|file| Source::named(Some(file))).transpose()?;
    // A file that cannot be read is found out before anybody is asked.
    let lines = match &source {
        Some(source) => Some(lines(source.open().await?, source.name())),
        None => None,
    };
    let daemon = context.connect().await?;
    let lines: BoxStream<'static, Result<Decision, Failure>> = match lines {
        Some(lines) => lines.boxed(),
        None => own(&daemon, limit).await?,
    };
    let (lines, mut failed) = feed::split(lines, OnFailure::End);
    let mut replies = daemon.inference().replay(lines).await?.into_inner();
    let mut counts = Counts::default();
    while let Some(reply) = output.next(&mut replies).await? {
        let view = ReplayView::from(reply);
        counts.add(&view);
        match output.format() {
            Format::Json => output.json([&view]).await?,
            Format::Human => output.text(&(view.line() + "\n")).await?,
        }
    }
    if let Ok(failure) = failed.try_recv() {
        return Err(failure);
    }
    output.note(&counts.sentence());
    if counts.different + counts.faulty > 0 { Err(Failure::NotReplayed(counts.sentence())) } else { Ok(()) }
}

async fn own(daemon: &Daemon, limit: u32) -> Result<BoxStream<'static, Result<Decision, Failure>>, Failure> {
    let decisions = daemon.inference().decisions(DecisionsRequest { limit }).await?.into_inner();
    Ok(decisions.map_err(Failure::from).boxed())
}

type Lines = Box<dyn AsyncBufRead + Send + Unpin>;

/// Every line of a file that is not empty, whatever it holds: the daemon says what is wrong with it.
fn lines(reader: Lines, name: String) -> impl Stream<Item = Result<Decision, Failure>> + Send {
    stream::try_unfold((reader, name), |(mut reader, name)| async move {
        loop {
            let mut line = Vec::new();
            let read = (&mut reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await;
            if read.map_err(|source| Failure::Unreadable { what: name.clone(), source })? == 0 {
                return Ok(None);
            }
            let json = String::from_utf8_lossy(line.trim_ascii()).into_owned();
            if !json.is_empty() {
                return Ok(Some((Decision { json }, (reader, name))));
            }
        }
    })
}

#[derive(Debug, Default)]
struct Counts {
    same: u64,
    different: u64,
    faulty: u64,
}

impl Counts {
    fn add(&mut self, view: &ReplayView) {
        match view {
            ReplayView { fault: Some(_), .. } => self.faulty += 1,
            ReplayView { same: true, .. } => self.same += 1,
            ReplayView { same: false, .. } => self.different += 1,
        }
    }

    fn sentence(&self) -> String {
        format!("{} decided the same, {} different, {} not readable", self.same, self.different, self.faulty)
    }
}

#[derive(Debug, Serialize)]
struct ReplayView {
    schema: &'static str,
    request_id: Option<String>,
    recorded: Option<String>,
    decided: Option<String>,
    same: bool,
    fault: Option<String>,
}

impl From<Replayed> for ReplayView {
    fn from(reply: Replayed) -> Self {
        Self {
            schema: "synesis.replay/1",
            request_id: present(reply.request_id),
            recorded: present(reply.recorded),
            decided: present(reply.decided),
            same: reply.same,
            fault: present(reply.fault),
        }
    }
}

impl ReplayView {
    fn line(&self) -> String {
        let id = self.request_id.as_deref().unwrap_or("?");
        let (recorded, decided) =
            (self.recorded.as_deref().unwrap_or("?"), self.decided.as_deref().unwrap_or("?"));
        match (&self.fault, self.same) {
            (Some(fault), _) => format!("faulty     {id}  {fault}"),
            (None, true) => format!("same       {id}  {recorded}"),
            (None, false) => format!("different  {id}  recorded {recorded}, now {decided}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_line_is_handed_on_and_an_empty_one_is_none() {
        let input: &'static [u8] = b"{\"a\":1}\r\n\n  \nnot json\n\xff\xfe\nlast";
        let found: Vec<String> =
            lines(Box::new(input), "input".to_owned()).map_ok(|line| line.json).try_collect().await.unwrap();
        assert_eq!(found, ["{\"a\":1}", "not json", "\u{fffd}\u{fffd}", "last"]);
    }

    #[tokio::test]
    async fn a_line_without_an_end_comes_in_pieces() {
        let input: &'static [u8] = Box::leak(vec![b'x'; 150_000].into_boxed_slice());
        let found: Vec<Decision> = lines(Box::new(input), "input".to_owned()).try_collect().await.unwrap();
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn a_decision_that_cannot_be_read_is_shown_as_far_as_it_goes() {
        assert!(line("no json").contains('?'));
        let line = line(
            r#"{"at":"2026-01-01T00:00:00Z","decision":"cloud","reason":"low_confidence",
            "request_id":"01","evidence":[{"confidence":{"tokens":24}}]}"#,
        );
        assert!(line.contains("low_confidence") && line.contains("\"tokens\":24"), "{line}");
    }
}
