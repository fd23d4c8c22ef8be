//! How a pull of a model is shown, and what it ends with.

use serde::Serialize;
use synesis_proto::control::v1::pull_event::Event;
use synesis_proto::control::v1::{ModelRecord, PullEvent};
use tonic::Streaming;

use super::list::ModelJson;
use crate::commands::progress::{self, Shown, Told, Words};
use crate::failure::Failure;
use crate::output::Output;
use crate::units;
use crate::view::{Style, View};

pub(super) const WORDS: Words = Words {
    schema: "synesis.model_pull/1",
    doing: "pulling",
    moving: "receiving",
    resumed: "of it here already",
    left: "what came so far is kept: run the same command again, and it goes on from there",
};

/// Reads the events to the end.
pub(super) async fn follow(
    events: &mut Streaming<PullEvent>,
    shown: &mut Shown,
    output: &mut Output,
) -> Result<(), Failure> {
    let read = |event: PullEvent| {
        Some(match event.event? {
            Event::Started(started) => Told::Started(started),
            Event::Progress(progress) => Told::Progress(progress),
            Event::Done(record) => Told::Done(record),
        })
    };
    done(progress::follow(events, read, shown, output).await?, output).await
}

async fn done(record: ModelRecord, output: &mut Output) -> Result<(), Failure> {
    let model = ModelJson::from(record);
    let name = model.name.clone();
    output.print(&PulledView { r#type: "done", schema: WORDS.schema, model }).await?;
    output.note(&format!("answer with it from now on: synctl model load {name}"));
    Ok(())
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
