//! How a pull of a model is shown, and what it ends with.

use serde::Serialize;
use synesis_proto::control::v1::pull_event::Event;
use synesis_proto::control::v1::{ModelRecord, PullEvent};
use tonic::Streaming;

use super::list::ModelJson;
use crate::commands::progress::{Shown, Words};
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
            Some(Some(Event::Done(record))) => {
                shown.settle();
                return done(record, output).await;
            }
            // An event of a newer daemon.
            Some(None) => {}
            None => return Err(Failure::Protocol("a pull that ends without an end".to_owned())),
        }
    }
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
