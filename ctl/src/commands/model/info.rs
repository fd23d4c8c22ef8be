//! `model info`: the model that answers, how it is, and how busy.

use serde::Serialize;
use synesis_proto::control::v1::{ModelInfoReply, ModelInfoRequest};

use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::units;
use crate::view::{Style, View, present};

pub(super) async fn run(context: &Context, output: &mut Output) -> Result<(), Failure> {
    let reply = context.connect().await?.models().info(ModelInfoRequest {}).await?.into_inner();
    output.print(&ModelView::from(reply)).await
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
    threads: Option<u32>,
    parallel: Option<u32>,
    active: u32,
    queued: u32,
    memory_bytes: Option<u64>,
    resident_bytes: Option<u64>,
    makes_embeddings: bool,
    embeddings_only: bool,
    embedding_width: Option<u32>,
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
            threads: known(reply.threads),
            parallel: known(reply.parallel),
            active: reply.active,
            queued: reply.queued,
            memory_bytes: known(reply.memory_bytes),
            resident_bytes: known(reply.resident_bytes),
            makes_embeddings: reply.makes_embeddings,
            embeddings_only: reply.embeddings_only,
            embedding_width: known(reply.embedding_width),
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
        let busy = self
            .parallel
            .map(|parallel| format!("{} of {parallel} answering, {} waiting", self.active, self.queued));
        let embeddings = self.makes_embeddings.then(|| {
            let width =
                self.embedding_width.map_or_else(String::new, |width| format!(", {width} numbers each"));
            let only = if self.embeddings_only { "; it writes no text" } else { "" };
            format!("yes{width}{only}")
        });
        let memory = self.resident_bytes.or(self.memory_bytes).map(units::bytes);
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
            ("requests", busy),
            ("memory", memory),
            ("embeddings", embeddings),
            ("engine", self.engine.clone()),
        ];
        let lines = rows.into_iter().filter_map(|(name, value)| Some(format!("{name:<13} {}", value?)));
        lines.collect::<Vec<_>>().join("\n")
    }
}
