//! `route`: where a request would run, and why.

use serde::Serialize;
use synesis_proto::control::v1::RouteReply;

use super::request::RequestArgs;
use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::view::{Style, View, present};

pub(crate) async fn run(
    arguments: RequestArgs,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let request = arguments.into_request().await?;
    let reply = context.connect().await?.inference().route(request).await?.into_inner();
    output.print(&RouteView::from(reply)).await
}

#[derive(Debug, Serialize)]
struct RouteView {
    schema: &'static str,
    decision: String,
    reason: String,
    explanation: Option<String>,
    next_step: Option<String>,
    input_tokens: Option<u32>,
}

impl From<RouteReply> for RouteView {
    fn from(reply: RouteReply) -> Self {
        Self {
            schema: "synesis.route/1",
            decision: reply.decision,
            reason: reply.reason,
            explanation: present(reply.explanation),
            next_step: present(reply.next_step),
            input_tokens: Some(reply.input_tokens).filter(|tokens| *tokens > 0),
        }
    }
}

impl View for RouteView {
    fn human(&self, style: Style) -> String {
        let explanation = self.explanation.as_deref().unwrap_or("no explanation");
        let mut text = format!("{}  {explanation} ({})", style.state(&self.decision, 0), self.reason);
        if let Some(tokens) = self.input_tokens {
            text.push_str(&format!("\nprompt {tokens} tokens"));
        }
        if let Some(next) = &self.next_step {
            text.push_str(&format!("\n{} {next}", style.strong("next:")));
        }
        text
    }
}
