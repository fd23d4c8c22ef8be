//! `model load` and `model rm`.

use serde::Serialize;
use synesis_proto::control::v1::{LoadModelReply, LoadModelRequest, RemoveModelRequest};

use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::units;
use crate::view::{Style, View, present};

pub(super) async fn load(
    name: Option<String>,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let request = LoadModelRequest { name: name.unwrap_or_default() };
    let reply = context.connect().await?.models().load(request).await?.into_inner();
    output.print(&LoadView::from(reply)).await
}

pub(super) async fn remove(name: String, context: &Context, output: &mut Output) -> Result<(), Failure> {
    let request = RemoveModelRequest { name: name.clone() };
    context.connect().await?.models().remove(request).await?;
    output.print(&RemovedView { schema: "synesis.model_removed/1", removed: name }).await
}

#[derive(Debug, Serialize)]
struct LoadView {
    schema: &'static str,
    name: String,
    previous: Option<String>,
    load_ms: u64,
    gap_ms: u64,
}

impl From<LoadModelReply> for LoadView {
    fn from(reply: LoadModelReply) -> Self {
        Self {
            schema: "synesis.model_load/1",
            name: reply.name,
            previous: present(reply.previous),
            load_ms: units::whole_ms(reply.load_ms),
            gap_ms: units::whole_ms(reply.gap_ms),
        }
    }
}

impl View for LoadView {
    fn human(&self, style: Style) -> String {
        let before = self.previous.as_deref().unwrap_or("none");
        let gap = match self.gap_ms {
            0 => "without a gap".to_owned(),
            ms => format!("with a gap of {}", units::duration(ms as f64)),
        };
        format!(
            "{} answers from now on (before: {before}), loaded in {} {gap}",
            style.strong(&self.name),
            units::duration(self.load_ms as f64),
        )
    }
}

#[derive(Debug, Serialize)]
struct RemovedView {
    schema: &'static str,
    removed: String,
}

impl View for RemovedView {
    fn human(&self, _: Style) -> String {
        format!("{} is removed", self.removed)
    }
}
