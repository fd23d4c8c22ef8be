//! How a pull is shown: a bar on a terminal, a line now and then in a pipe, an object per event as JSON.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use synesis_proto::control::v1::pull_event::Event;
use synesis_proto::control::v1::{ModelRecord, PullEvent, PullProgress, PullStarted};
use tonic::Streaming;

use super::list::ModelJson;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::units;
use crate::view::{Style, View};

/// Between two lines in a pipe, in percent.
const STEP: u64 = 10;
const BAR: &str = "{msg:12} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
const UNKNOWN_LENGTH: &str = "{msg:12} {spinner} {bytes} {bytes_per_sec}";

/// What is on the screen of one pull.
pub(super) struct Shown {
    bar: ProgressBar,
    /// Percent of the last line.
    told: Option<u64>,
    ending: Ending,
}

/// What is left to say when this pull is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Nothing, or something else has been said.
    Silent,
    /// That it can go on: the user ended it.
    Resumable,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if self.ending == Ending::Resumable {
            // Standard error may be closed; then there is nobody to tell.
            let kept = "what came so far is kept: run the same command again, and it goes on from there";
            let _ = writeln!(std::io::stderr(), "{kept}");
        }
    }
}

/// Reads the events to the end.
pub(super) async fn follow(
    events: &mut Streaming<PullEvent>,
    shown: &mut Shown,
    output: &mut Output,
) -> Result<(), Failure> {
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
        match event.map(|event| event.event) {
            Some(Some(Event::Started(started))) => shown.started(started, output).await?,
            Some(Some(Event::Progress(progress))) => shown.progress(&progress, output).await?,
            Some(Some(Event::Done(record))) => return shown.done(record, output).await,
            // An event of a newer daemon.
            Some(None) => {}
            None => return Err(Failure::Protocol("a pull that ends without an end".to_owned())),
        }
    }
}

impl Shown {
    pub(super) fn new(output: &Output) -> Self {
        let bar = ProgressBar::no_length();
        let people = output.wants_notes() && std::io::stderr().is_terminal();
        bar.set_draw_target(if people { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
        Self { bar, told: None, ending: Ending::Silent }
    }

    /// The end is told by something else.
    fn settle(&mut self) {
        self.bar.finish_and_clear();
        self.ending = Ending::Silent;
    }

    pub(super) async fn started(&mut self, started: PullStarted, output: &mut Output) -> Result<(), Failure> {
        if output.wants_notes() {
            self.ending = Ending::Resumable;
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
        self.bar.set_message("receiving");
        if output.format() == Format::Json {
            return output.json([Line::started(&started)]).await;
        }
        let size = total.map(|total| format!(", {}", units::bytes(total))).unwrap_or_default();
        let resumed = match started.resumed_bytes {
            0 => String::new(),
            here => format!(", {} of it here already", units::bytes(here)),
        };
        self.bar.suspend(|| output.note(&format!("pulling {}{size}{resumed}", started.source)));
        Ok(())
    }

    async fn progress(&mut self, progress: &PullProgress, output: &mut Output) -> Result<(), Failure> {
        self.bar.set_position(progress.received_bytes);
        if progress.phase == "verifying" {
            self.bar.set_message("verifying");
        }
        if output.format() == Format::Json {
            return output.json([Line::progress(progress)]).await;
        }
        if self.bar.is_hidden() {
            self.line(progress, output);
        }
        Ok(())
    }

    fn line(&mut self, progress: &PullProgress, output: &Output) {
        let share = progress.received_bytes.saturating_mul(100).checked_div(progress.total_bytes);
        if progress.phase == "verifying" {
            output.note("verifying");
        } else if let Some(share) = share
            && self.told.is_none_or(|told| share >= told.saturating_add(STEP))
        {
            self.told = Some(share);
            let (here, total) = (units::bytes(progress.received_bytes), units::bytes(progress.total_bytes));
            output.note(&format!("{share} % ({here} of {total})"));
        }
    }

    async fn done(&mut self, record: ModelRecord, output: &mut Output) -> Result<(), Failure> {
        self.settle();
        let model = ModelJson::from(record);
        let name = model.name.clone();
        output.print(&PulledView { r#type: "done", schema: "synesis.model_pull/1", model }).await?;
        output.note(&format!("answer with it from now on: synctl model load {name}"));
        Ok(())
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
    fn started(started: &'a PullStarted) -> Self {
        Self {
            r#type: "started",
            schema: "synesis.model_pull/1",
            source: Some(&started.source),
            phase: None,
            received_bytes: started.resumed_bytes,
            total_bytes: Some(started.total_bytes).filter(|total| *total > 0),
        }
    }

    fn progress(progress: &'a PullProgress) -> Self {
        Self {
            r#type: "progress",
            schema: "synesis.model_pull/1",
            source: None,
            phase: Some(&progress.phase),
            received_bytes: progress.received_bytes,
            total_bytes: Some(progress.total_bytes).filter(|total| *total > 0),
        }
    }
}

#[derive(Debug, Serialize)]
struct PulledView {
    r#type: &'static str,
    schema: &'static str,
    #[serde(flatten)]
    model: ModelJson,
}

impl View for PulledView {
    fn human(&self, style: Style) -> String {
        let model = &self.model;
        format!(
            "{}  {}, {}\nsha256 {}\nsource {}",
            style.strong(&model.name),
            units::bytes(model.size_bytes),
            model
                .architecture
                .as_deref()
                .unwrap_or("not looked at yet: too large for the memory that is free"),
            model.sha256.as_deref().unwrap_or_default(),
            model.source,
        )
    }
}
