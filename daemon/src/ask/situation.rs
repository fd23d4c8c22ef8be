//! What the router has to know, gathered for one request, and its refusals in words.

use std::time::SystemTime;

use synesis_mesh::device::TunnelState;
use synesis_privacy::Message;
use synesis_proto::runtime::v1::{CountTokensRequest, count_tokens_request};

use super::{Ask, AskError, Asker, chat};
use crate::model::ModelState;
use crate::route::{Decision, Fit, Inputs, Mode, ModelHealth, RefuseWhy, Uplink, route};

/// A decision and what it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    /// The outcome.
    pub decision: Decision,
    /// Tokens of the prompt with its template; 0: could not be counted.
    pub input_tokens: u32,
    /// What it was decided on; the same inputs always decide the same.
    pub inputs: Inputs,
}

impl Asker {
    pub(super) async fn situation(&self, ask: &Ask, messages: &[Message]) -> Result<Routing, AskError> {
        let model = match self.model.status().borrow().state {
            ModelState::None => ModelHealth::None,
            ModelState::Loading => ModelHealth::Starting,
            ModelState::Ready => ModelHealth::Ready,
            ModelState::Failed => ModelHealth::Failed,
        };
        let (fit, input_tokens) = match model {
            ModelHealth::Ready => self.fit(messages).await,
            ModelHealth::None | ModelHealth::Starting | ModelHealth::Failed => (Fit::Unknown, 0),
        };
        let uplink = match self.escalation.tunnel.status().borrow().state {
            TunnelState::Unenrolled => Uplink::Unenrolled,
            TunnelState::Revoked => Uplink::Revoked,
            // A gateway that asks to move still takes work.
            TunnelState::Up | TunnelState::Draining => Uplink::Up,
            TunnelState::Offline | TunnelState::Connecting | TunnelState::Backoff => Uplink::Down,
        };
        // An adapter lives on this device, so naming one is asking for a local answer.
        let names_adapter = !matches!(ask.adapter.as_str(), "" | "none");
        let mode = if names_adapter { Mode::Local } else { ask.mode };
        let committed = self.escalation.journal.committed(SystemTime::now());
        let inputs = Inputs {
            mode,
            policy: self.config.routing.policy,
            consent: self.config.privacy.consent,
            detectors_ready: self.privacy.is_some(),
            model,
            fit,
            uplink,
            budget_left: self.escalation.budget.left(committed),
        };
        Ok(Routing { decision: route(&inputs), input_tokens, inputs })
    }

    /// Not being able to count is no reason against the model: it says itself when a prompt is too long.
    async fn fit(&self, messages: &[Message]) -> (Fit, u32) {
        let request = CountTokensRequest { input: Some(count_tokens_request::Input::Chat(chat(messages))) };
        match self.model.count_tokens(request).await {
            Ok(count) if count.tokens >= count.context_tokens => {
                (Fit::TooLong { tokens: count.tokens, window: count.context_tokens }, count.tokens)
            }
            Ok(count) => (Fit::Fits, count.tokens),
            Err(error) => {
                tracing::debug!(%error, "the prompt could not be counted");
                (Fit::Unknown, 0)
            }
        }
    }

    /// The router's "no" with what the device knows about the cause.
    pub fn refusal(&self, why: RefuseWhy) -> AskError {
        let (reason, next_step) = match why {
            RefuseWhy::NoModel => (
                "no model is configured".to_owned(),
                "set model.path in synesisd.toml, or ask with --cloud".to_owned(),
            ),
            RefuseWhy::ModelFailed => {
                let status = self.model.status();
                let status = status.borrow();
                (status.reason.clone(), status.next_step.clone())
            }
            RefuseWhy::PromptTooLong { tokens, window } => (
                format!("the prompt takes {tokens} tokens and the model's context has {window}"),
                "shorten it, raise model.context_tokens, or ask with --cloud".to_owned(),
            ),
            RefuseWhy::ConsentNever => (
                "privacy.consent is never: nothing may leave this device".to_owned(),
                "ask with --local, or change privacy.consent".to_owned(),
            ),
            RefuseWhy::DetectorsFailed => return AskError::rules_unusable(),
            RefuseWhy::NotEnrolled => match &*self.damage.borrow() {
                Some(damage) => (damage.reason.clone(), format!("ask with --local; else {}", damage.next_step)),
                None => (
                    "this device is not enrolled with a gateway".to_owned(),
                    "run `synctl enroll`, or ask with --local".to_owned(),
                ),
            },
            RefuseWhy::Revoked => (
                "the gateway revoked this device".to_owned(),
                "ask its operator for a new token and run `synctl unenroll`, then `synctl enroll`; or ask with --local".to_owned(),
            ),
            RefuseWhy::Offline => {
                let status = self.escalation.tunnel.status();
                let status = status.borrow();
                (
                    status.reason.as_ref().map_or_else(|| "the tunnel is not up".to_owned(), |why| format!("offline: {why}")),
                    "ask with --local, or look at `synctl tunnel status`".to_owned(),
                )
            }
            RefuseWhy::DailyLimit => (
                format!(
                    "the daily limit of {} is used up",
                    self.config.billing.daily_limit_usd.unwrap_or_default()
                ),
                "ask with --local, wait for tomorrow (UTC), or raise billing.daily_limit_usd".to_owned(),
            ),
        };
        AskError::Refused { why, reason, next_step }
    }
}
