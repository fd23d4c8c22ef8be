//! `model`: the model that answers on this device.

use clap::Subcommand;
use serde::Serialize;
use synesis_proto::control::v1::{ModelInfoReply, ModelInfoRequest};

use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::units;
use crate::view::{Style, View, present};

/// The commands below `model`.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Show the model, its size and its state
    Info,
}

pub(crate) async fn run(
    command: ModelCommand,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    match command {
        ModelCommand::Info => {
            let reply = context.connect().await?.models().info(ModelInfoRequest {}).await?.into_inner();
            output.print(&ModelView::from(reply)).await
        }
    }
}

#[derive(Debug, Serialize)]
struct ModelView {
    schema: &'static str,
    name: Option<String>,
    path: Option<String>,
    state: String,
    architecture: Option<String>,
    parameters: Option<u64>,
    size_bytes: Option<u64>,
    context_tokens: Option<u32>,
    trained_context_tokens: Option<u32>,
    layers: Option<u32>,
    has_chat_template: bool,
    engine: Option<String>,
    reason: Option<String>,
    next_step: Option<String>,
}

/// protobuf's zero, where it stands for "not known".
fn known<T: Default + PartialEq>(number: T) -> Option<T> {
    Some(number).filter(|number| *number != T::default())
}

impl From<ModelInfoReply> for ModelView {
    fn from(reply: ModelInfoReply) -> Self {
        Self {
            schema: "synesis.model/1",
            name: present(reply.name),
            path: present(reply.path),
            state: present(reply.state).unwrap_or_else(|| "none".to_owned()),
            architecture: present(reply.architecture),
            parameters: known(reply.parameters),
            size_bytes: known(reply.size_bytes),
            context_tokens: known(reply.context_tokens),
            trained_context_tokens: known(reply.trained_context_tokens),
            layers: known(reply.layers),
            has_chat_template: reply.has_chat_template,
            engine: present(reply.engine),
            reason: present(reply.reason),
            next_step: present(reply.next_step),
        }
    }
}

impl View for ModelView {
    fn human(&self, style: Style) -> String {
        let template = if self.has_chat_template { "in the file" } else { "none in the file" };
        let context = self.context_tokens.map(|tokens| match self.trained_context_tokens {
            Some(trained) => format!("{tokens} tokens (trained for {trained})"),
            None => format!("{tokens} tokens"),
        });
        let rows = [
            ("model", Some(self.name.clone().unwrap_or_else(|| "none".to_owned()))),
            ("state", Some(style.state(&self.state, 0))),
            ("why", self.reason.clone()),
            ("next", self.next_step.clone()),
            ("file", self.path.clone()),
            ("size", self.size_bytes.map(units::bytes)),
            ("architecture", self.architecture.clone()),
            ("parameters", self.parameters.map(|count| format!("{:.0} million", count as f64 / 1e6))),
            ("layers", self.layers.map(|layers| layers.to_string())),
            ("context", context),
            ("template", self.path.as_ref().map(|_| template.to_owned())),
            ("engine", self.engine.clone()),
        ];
        let lines = rows.into_iter().filter_map(|(name, value)| Some(format!("{name:<13} {}", value?)));
        lines.collect::<Vec<_>>().join("\n")
    }
}
