//! How bytes on their way are shown: a bar on a terminal, a line now and then in a pipe, an object per event as JSON.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use synesis_proto::control::v1::{PullProgress, PullStarted};
use tonic::Streaming;

use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::units;

/// Between two lines in a pipe, in percent.
const STEP: u64 = 10;
const BAR: &str = "{msg:12} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
const UNKNOWN_LENGTH: &str = "{msg:12} {spinner} {bytes} {bytes_per_sec}";

/// What is said of one kind of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    /// Of the JSON objects.
    pub(super) schema: &'static str,
    /// With the source behind it.
    pub(super) doing: &'static str,
    /// On the bar, as long as nothing else is known.
    pub(super) moving: &'static str,
    /// With a size before it.
    pub(super) resumed: &'static str,
    /// When the user leaves before the end.
    pub(super) left: &'static str,
}

/// What is told of bytes on their way.
pub(super) enum Told<D> {
    Started(PullStarted),
    Progress(PullProgress),
    Done(D),
}

/// Shows `events` to their end, and returns what that is. `read` gives nothing for an event of a newer daemon.
pub(super) async fn follow<E, D>(
    events: &mut Streaming<E>,
    read: impl Fn(E) -> Option<Told<D>>,
    shown: &mut Shown,
    output: &mut Output,
) -> Result<D, Failure> {
    loop {
        let event = match output.next(events).await {
            Ok(event) => event,
            Err(failure) => {
                // The daemon's own words say what became of the bytes.
                if matches!(failure, Failure::Refused(_)) {
                    shown.settle();
                }
                return Err(failure);
            }
        };
        let Some(event) = event else {
            return Err(Failure::Protocol("bytes on their way that have no end".to_owned()));
        };
        match read(event) {
            Some(Told::Started(started)) => shown.started(started, output).await?,
            Some(Told::Progress(progress)) => shown.progress(&progress, output).await?,
            Some(Told::Done(done)) => {
                shown.settle();
                return Ok(done);
            }
            None => {}
        }
    }
}

/// What is on the screen.
pub(super) struct Shown {
    words: Words,
    bar: ProgressBar,
    /// Percent of the last line, and its phase.
    told: Option<u64>,
    phase: String,
    ending: Ending,
}

/// What is left to say when the user leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Nothing, or something else has been said.
    Silent,
    /// What becomes of the bytes.
    Unfinished,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if self.ending == Ending::Unfinished {
            // Standard error may be closed; then there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{}", self.words.left);
        }
    }
}

impl Shown {
    pub(super) fn new(words: Words, output: &Output) -> Self {
        let bar = ProgressBar::no_length();
        let people = output.wants_notes() && std::io::stderr().is_terminal();
        bar.set_draw_target(if people { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
        Self { words, bar, told: None, phase: String::new(), ending: Ending::Silent }
    }

    /// The end is told by something else.
    pub(super) fn settle(&mut self) {
        self.bar.finish_and_clear();
        self.ending = Ending::Silent;
    }

    pub(super) async fn started(&mut self, started: PullStarted, output: &mut Output) -> Result<(), Failure> {
        if output.wants_notes() {
            self.ending = Ending::Unfinished;
        }
        let total = Some(started.total_bytes).filter(|total| *total > 0);
        let template = if total.is_some() { BAR } else { UNKNOWN_LENGTH };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(started.resumed_bytes);
        self.bar.reset_eta();
        self.bar.set_message(self.words.moving);
        if output.format() == Format::Json {
            return output.json([Line::started(&self.words, &started)]).await;
        }
        let size = total.map(|total| format!(", {}", units::bytes(total))).unwrap_or_default();
        let resumed = match started.resumed_bytes {
            0 => String::new(),
            here => format!(", {} {}", units::bytes(here), self.words.resumed),
        };
        let line = format!("{} {}{size}{resumed}", self.words.doing, started.source);
        self.bar.suspend(|| output.note(&line));
        Ok(())
    }

    pub(super) async fn progress(
        &mut self,
        progress: &PullProgress,
        output: &mut Output,
    ) -> Result<(), Failure> {
        self.bar.set_position(progress.received_bytes);
        if !progress.phase.is_empty() {
            self.bar.set_message(progress.phase.clone());
        }
        if output.format() == Format::Json {
            return output.json([Line::progress(&self.words, progress)]).await;
        }
        if self.bar.is_hidden() {
            self.line(progress, output);
        }
        Ok(())
    }

    fn line(&mut self, progress: &PullProgress, output: &Output) {
        let share = progress.received_bytes.saturating_mul(100).checked_div(progress.total_bytes);
        if matches!(progress.phase.as_str(), "verifying" | "waiting") {
            if self.phase != progress.phase {
                output.note(&progress.phase);
            }
        } else if let Some(share) = share
            && self.told.is_none_or(|told| share >= told.saturating_add(STEP))
        {
            self.told = Some(share);
            let (here, total) = (units::bytes(progress.received_bytes), units::bytes(progress.total_bytes));
            output.note(&format!("{share} % ({here} of {total})"));
        }
        self.phase.clone_from(&progress.phase);
    }
}

/// An event that is not the last.
#[derive(Debug, Serialize)]
struct Line<'a> {
    r#type: &'static str,
    schema: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'a str>,
    received_bytes: u64,
    total_bytes: Option<u64>,
}

impl<'a> Line<'a> {
    fn started(words: &Words, started: &'a PullStarted) -> Self {
        Self {
            r#type: "started",
            schema: words.schema,
            source: Some(&started.source),
            phase: None,
            received_bytes: started.resumed_bytes,
            total_bytes: Some(started.total_bytes).filter(|total| *total > 0),
        }
    }

    fn progress(words: &Words, progress: &'a PullProgress) -> Self {
        Self {
            r#type: "progress",
            schema: words.schema,
            source: None,
            phase: Some(&progress.phase),
            received_bytes: progress.received_bytes,
            total_bytes: Some(progress.total_bytes).filter(|total| *total > 0),
        }
    }
}
