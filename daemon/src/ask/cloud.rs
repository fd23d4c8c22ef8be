//! The cloud half: what may leave is redacted first, and nothing else leaves.

use std::time::Duration;

use synesis_mesh::kind::ErrorCode;
use ulid::Ulid;

use super::turn::{Beside, Hidden};
use super::{Ask, AskError, Asker, Constraint, Done, Receipt, Route, Sink, Turn};
use crate::adapters::{AdapterError, AdapterName};
use crate::escalation::{EscalationError, PushedAdapter, Wishes};
use crate::route::RefuseWhy;

impl Asker {
    /// The turn comes back whatever the cloud said, so that the local model can take it up.
    ///
    /// # Errors
    /// The turn itself is lost.
    pub(super) async fn cloud(
        &self,
        id: Ulid,
        route: Route,
        ask: &Ask,
        turn: Turn,
        sink: &mut Sink,
    ) -> Result<(Turn, Result<Done, AskError>), AskError> {
        let Some(policy) = &self.privacy else {
            return Ok((turn, Err(self.refusal(RefuseWhy::DetectorsFailed))));
        };
        let (turn, hidden) = turn.hide(policy, beside(ask)).await?;
        let answered = match hidden {
            Ok(hidden) => self.escalate(id, route, ask, hidden, sink).await,
            Err(error) => Err(error.into()),
        };
        Ok((turn, answered))
    }

    async fn escalate(
        &self,
        id: Ulid,
        route: Route,
        ask: &Ask,
        hidden: Hidden,
        sink: &mut Sink,
    ) -> Result<Done, AskError> {
        let Hidden { messages, stop, tools, json_schema, restorer } = hidden;
        let adapter_generation = self.adapters.snapshot().borrow().generation;
        let adapter = self.pushed(&ask.adapter)?;
        let name = adapter.as_ref().map(|adapter| adapter.name.to_string()).unwrap_or_default();
        let wishes = Wishes {
            max_tokens: self.max_tokens(ask),
            temperature: ask.sampling.temperature,
            top_p: ask.sampling.top_p,
            seed: ask.sampling.seed,
            presence_penalty: ask.sampling.presence_penalty,
            frequency_penalty: ask.sampling.frequency_penalty,
            stop,
            tools,
            json_schema,
            adapter_generation,
            adapter,
        };
        let answered = self.escalation.run(id, &messages, restorer, wishes, sink).await;
        let answer = answered.map_err(|error| match error {
            EscalationError::Refused { code: Some(ErrorCode::AdapterUnknown), .. } => {
                AskError::NotPushed(name.clone())
            }
            other => other.into(),
        })?;
        Ok(Done {
            route,
            model: answer.model,
            adapter: name,
            adapter_generation,
            input_tokens: answer.input_tokens,
            output_tokens: answer.output_tokens,
            to_first: sink.to_first(),
            total: sink.so_far(),
            finish_reason: answer.finish_reason,
            receipt: answer.receipt.map_or(Receipt::Pending, |signed| Receipt::Stored(Box::new(signed))),
            unknown_placeholders: answer.unknown_placeholders,
            tool_calls: answer.tool_calls,
            mean_logprob: None,
            cached_tokens: 0,
            queued: Duration::ZERO,
        })
    }
}

impl Asker {
    /// The adapter that a request for the cloud means. This device may have it or not: the gateway knows by its content,
    /// or else by its name.
    fn pushed(&self, wanted: &str) -> Result<Option<PushedAdapter>, AskError> {
        if matches!(wanted, "" | "none") {
            return Ok(None);
        }
        let name = AdapterName::try_from(wanted.to_owned()).map_err(AdapterError::from)?;
        let snapshot = self.adapters.snapshot();
        let sha256 = snapshot.borrow().find(&name).map(|adapter| adapter.id.clone());
        Ok(Some(PushedAdapter { name, sha256 }))
    }
}

/// What leaves with the conversation. A grammar never does: only the local model follows one.
fn beside(ask: &Ask) -> Beside {
    let json_schema = match &ask.constraint {
        Some(Constraint::JsonSchema(schema)) => Some(schema.clone()),
        Some(Constraint::Grammar(_)) | None => None,
    };
    Beside { stop: ask.stop.clone(), tools: ask.tools.clone(), json_schema }
}
