//! `status`: one screen that tells what the device is doing, and for each thing that is wrong why and what to do.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use synesis_proto::control::v1::{StatusReply, StatusRequest};

use super::tunnel::TunnelJson;
use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::view::{Style, View, present};

/// How to show it.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Keep showing it, again at every change
    #[arg(long)]
    watch: bool,
}

impl StatusArgs {
    pub(crate) fn patience(&self) -> Option<Duration> {
        if self.watch { super::UNLIMITED } else { super::QUICK }
    }
}

pub(crate) async fn run(
    arguments: StatusArgs,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut node = context.connect().await?.node();
    if !arguments.watch {
        let reply = node.status(StatusRequest {}).await?.into_inner();
        return output.print(&StatusView::from(reply)).await;
    }
    let mut snapshots = node.watch(StatusRequest {}).await?.into_inner();
    while let Some(reply) = output.next(&mut snapshots).await? {
        output.refresh(&StatusView::from(reply)).await?;
    }
    Err(super::watch_ended())
}

#[derive(Debug, Serialize)]
struct StatusView {
    schema: &'static str,
    state: String,
    subsystems: Vec<SubsystemJson>,
    tunnel: TunnelJson,
    model: ModelJson,
    adapter: AdapterJson,
    device_id: Option<String>,
    version: String,
    started_at: Option<String>,
    pending_receipts: u32,
}

#[derive(Debug, Serialize)]
struct SubsystemJson {
    name: String,
    state: String,
    reason: Option<String>,
    next_step: Option<String>,
}

#[derive(Debug, Serialize)]
struct ModelJson {
    name: Option<String>,
    state: String,
    reason: Option<String>,
    next_step: Option<String>,
    makes_embeddings: bool,
}

/// The base model is no name and generation 0, unless an adapter was switched off before.
#[derive(Debug, Serialize)]
struct AdapterJson {
    name: Option<String>,
    generation: u64,
}

impl From<StatusReply> for StatusView {
    fn from(reply: StatusReply) -> Self {
        let subsystems = reply.subsystems.into_iter().map(|subsystem| SubsystemJson {
            name: subsystem.name,
            state: subsystem.state,
            reason: present(subsystem.reason),
            next_step: present(subsystem.next_step),
        });
        let model = reply.model.unwrap_or_default();
        let adapter = reply.adapter.unwrap_or_default();
        Self {
            schema: "synesis.status/1",
            state: reply.state,
            subsystems: subsystems.collect(),
            tunnel: reply.tunnel.unwrap_or_default().into(),
            model: ModelJson {
                name: present(model.name),
                state: present(model.state).unwrap_or_else(|| "none".to_owned()),
                reason: present(model.reason),
                next_step: present(model.next_step),
                makes_embeddings: model.makes_embeddings,
            },
            adapter: AdapterJson { name: present(adapter.name), generation: adapter.generation },
            device_id: present(reply.device_id),
            version: reply.version,
            started_at: present(reply.started_at),
            pending_receipts: reply.pending_receipts,
        }
    }
}

impl View for StatusView {
    fn human(&self, style: Style) -> String {
        let mut screen = Screen { style, lines: Vec::new() };
        let since = self.started_at.as_ref().map(|at| format!("since {at}")).unwrap_or_default();
        screen.line("synesis", &self.state, &format!("version {} {since}", self.version));
        screen.plain("device", self.device_id.as_deref().unwrap_or("not enrolled"));
        screen.line("tunnel", &self.tunnel.state, &self.tunnel.summary());
        screen.trouble(self.tunnel.reason.as_deref(), self.tunnel.next_step.as_deref());
        if let Some(until) = &self.tunnel.certificate_until {
            screen.plain("identity", &format!("certificate valid until {until}"));
        }
        screen.line("model", &self.model.state, self.model.name.as_deref().unwrap_or_default());
        screen.trouble(self.model.reason.as_deref(), self.model.next_step.as_deref());
        let adapter = self.adapter.name.as_deref().unwrap_or("none (base model)");
        screen.plain("adapter", &format!("{adapter}, generation {}", self.adapter.generation));
        if self.pending_receipts > 0 {
            screen.plain("receipts", &format!("{} have not arrived yet", self.pending_receipts));
        }
        screen.lines.push(String::new());
        for subsystem in &self.subsystems {
            screen.line(&subsystem.name, &subsystem.state, "");
            screen.trouble(subsystem.reason.as_deref(), subsystem.next_step.as_deref());
        }
        screen.lines.join("\n")
    }
}

/// Lines of `name  state  detail`, with what is wrong below them.
struct Screen {
    style: Style,
    lines: Vec<String>,
}

impl Screen {
    fn line(&mut self, name: &str, state: &str, detail: &str) {
        let state = self.style.state(state, 11);
        self.lines.push(format!("{name:<10} {state} {detail}").trim_end().to_owned());
    }

    fn plain(&mut self, name: &str, detail: &str) {
        self.lines.push(format!("{name:<10} {detail}"));
    }

    fn trouble(&mut self, reason: Option<&str>, next_step: Option<&str>) {
        let labels = [("why:", reason), ("next:", next_step)];
        for (label, text) in labels.into_iter().filter_map(|(label, text)| Some((label, text?))) {
            self.lines.push(format!("{:<10} {} {text}", "", self.style.strong(label)));
        }
    }
}
