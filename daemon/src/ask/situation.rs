//! What the router has to know, gathered for one request, and its refusals in words.

use std::time::{Duration, SystemTime};

use synesis_mesh::device::TunnelState;
use synesis_privacy::Message;
use synesis_proto::runtime::v1::{CountTokensRequest, count_tokens_request};
use tokio::time::timeout;

use super::local::{chat, raw};
use super::{Ask, AskError, Asker, Constraint};
use crate::model::ModelState;
use crate::route::{
    Decision, Fit, Inputs, LocalFeature, Mode, ModelHealth, RefuseWhy, Thresholds, Uplink, ppm, route,
};
use crate::vitals::Vitals;

/// A model process that does not say within this time how long a request would wait has not said it.
const PATIENCE: Duration = Duration::from_secs(1);

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
    pub(super) async fn situation(&self, ask: &Ask, messages: &[Message]) -> Routing {
        let model = {
            let status = self.model.status();
            let status = status.borrow();
            match status.state {
                ModelState::None => ModelHealth::None,
                // For a prompt it is as good as none.
                ModelState::Ready if !status.writes_text() => ModelHealth::None,
                ModelState::Loading => ModelHealth::Starting,
                ModelState::Ready => ModelHealth::Ready,
                ModelState::Failed => ModelHealth::Failed,
            }
        };
        let thresholds = Thresholds::from(&self.config.routing);
        let (fit, input_tokens, wait_ms) = match model {
            ModelHealth::Ready => {
                let (fit, tokens) = self.fit(ask, messages).await;
                (fit, tokens, self.wait(&thresholds).await)
            }
            ModelHealth::None | ModelHealth::Starting | ModelHealth::Failed => (Fit::Unknown, 0, None),
        };
        let uplink = match self.escalation.tunnel.status().borrow().state {
            TunnelState::Unenrolled => Uplink::Unenrolled,
            TunnelState::Revoked => Uplink::Revoked,
            // A gateway that asks to move still takes work.
            TunnelState::Up | TunnelState::Draining => Uplink::Up,
            TunnelState::Offline | TunnelState::Connecting | TunnelState::Backoff => Uplink::Down,
        };
        let (memory_ppm, temperature_c) = self.vitals.borrow().as_ref().map_or((None, None), strain);
        let committed = self.escalation.journal.committed(SystemTime::now());
        let inputs = Inputs {
            mode: ask.mode,
            policy: self.config.routing.policy,
            consent: self.config.privacy.consent,
            detectors_ready: self.privacy.is_some(),
            model,
            fit,
            uplink,
            budget_left: self.escalation.budget.left(committed),
            local_only: local_only(ask),
            wait_ms,
            memory_ppm,
            temperature_c,
            thresholds,
        };
        Routing { decision: route(&inputs), input_tokens, inputs }
    }

    /// How long a request would wait for the model, when a rule needs to know.
    async fn wait(&self, thresholds: &Thresholds) -> Option<u32> {
        if thresholds.max_wait_ms == 0 {
            return None;
        }
        let health = timeout(PATIENCE, self.model.health()).await.ok()?.ok()?;
        Some(u32::try_from(health.expected_wait_ms).unwrap_or(u32::MAX))
    }

    /// Not being able to count is no reason against the model: it says itself when a prompt is too long.
    async fn fit(&self, ask: &Ask, messages: &[Message]) -> (Fit, u32) {
        let input = match raw(ask) {
            Some(prompt) => count_tokens_request::Input::Raw(prompt.to_owned()),
            None => count_tokens_request::Input::Chat(chat(ask, messages)),
        };
        match self.model.count_tokens(CountTokensRequest { input: Some(input) }).await {
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
            RefuseWhy::NoModel if !self.model.status().borrow().writes_text() => (
                "the loaded model makes embeddings and writes no text".to_owned(),
                "load one that writes text (synctl model load), or ask with --cloud".to_owned(),
            ),
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
            RefuseWhy::Unsupported(feature) => (
                format!("only a local answer can have {}", feature.name()),
                "leave it out, or ask without --cloud".to_owned(),
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

/// Memory in use and the highest temperature. Integers, because a decision has to be the same when it is made again.
fn strain(vitals: &Vitals) -> (Option<u32>, Option<u32>) {
    let gpus = vitals.gpus.iter().filter_map(|gpu| gpu.temperature_c);
    let hottest = vitals.temperature_c.into_iter().chain(gpus).max_by(f64::total_cmp);
    // A cast to an integer saturates: below freezing is 0.
    (vitals.memory.map(ppm), hottest.map(|celsius| celsius.round() as u32))
}

/// The first thing in the request that only the local model can do.
fn local_only(ask: &Ask) -> Option<LocalFeature> {
    let sampling = &ask.sampling;
    let grammar = matches!(ask.constraint, Some(Constraint::Grammar(_)));
    let features = [
        // One that was pushed answers in the cloud, too, but nobody is sent there without having asked for it.
        (ask.mode != Mode::Cloud && !matches!(ask.adapter.as_str(), "" | "none"), LocalFeature::Adapter),
        (ask.adapter_scale.is_some(), LocalFeature::AdapterScale),
        (ask.raw, LocalFeature::RawPrompt),
        (grammar, LocalFeature::Grammar),
        (ask.deterministic, LocalFeature::Deterministic),
        (ask.logprobs.is_some(), LocalFeature::Logprobs),
        // The values that switch these off want nothing.
        (sampling.top_k.is_some_and(|top_k| top_k > 0), LocalFeature::TopK),
        (sampling.min_p.is_some_and(|min_p| min_p > 0.0), LocalFeature::MinP),
        (
            sampling.repeat_penalty.is_some_and(|penalty| penalty != 0.0 && penalty != 1.0),
            LocalFeature::RepeatPenalty,
        ),
    ];
    features.into_iter().find_map(|(wanted, feature)| wanted.then_some(feature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Sampling;
    use crate::vitals::Gpu;

    #[test]
    fn each_wish_that_only_the_local_model_can_fulfil_is_seen() {
        let sampled = |sampling| Ask { sampling, ..Ask::default() };
        let cases = [
            (Ask { adapter: "json".into(), ..Ask::default() }, Some(LocalFeature::Adapter)),
            (Ask { adapter: "none".into(), ..Ask::default() }, None),
            (Ask { adapter: "json".into(), mode: Mode::Cloud, ..Ask::default() }, None),
            (Ask { adapter_scale: Some(0.5), ..Ask::default() }, Some(LocalFeature::AdapterScale)),
            (Ask { raw: true, ..Ask::default() }, Some(LocalFeature::RawPrompt)),
            (
                Ask { constraint: Some(Constraint::Grammar("start: \"a\"".into())), ..Ask::default() },
                Some(LocalFeature::Grammar),
            ),
            (Ask { constraint: Some(Constraint::JsonSchema("{}".into())), ..Ask::default() }, None),
            (Ask { tools: Some("[]".into()), ..Ask::default() }, None),
            (Ask { deterministic: true, ..Ask::default() }, Some(LocalFeature::Deterministic)),
            (Ask { logprobs: Some(0), ..Ask::default() }, Some(LocalFeature::Logprobs)),
            (sampled(Sampling { top_k: Some(40), ..Sampling::default() }), Some(LocalFeature::TopK)),
            (sampled(Sampling { top_k: Some(0), ..Sampling::default() }), None),
            (sampled(Sampling { min_p: Some(0.1), ..Sampling::default() }), Some(LocalFeature::MinP)),
            (
                sampled(Sampling { repeat_penalty: Some(1.1), ..Sampling::default() }),
                Some(LocalFeature::RepeatPenalty),
            ),
            (sampled(Sampling { repeat_penalty: Some(1.0), min_p: Some(0.0), ..Sampling::default() }), None),
            (
                sampled(Sampling {
                    temperature: Some(1.0),
                    top_p: Some(0.9),
                    seed: Some(1),
                    ..Sampling::default()
                }),
                None,
            ),
        ];
        for (ask, feature) in cases {
            assert_eq!(local_only(&ask), feature, "{ask:?}");
        }
    }

    #[test]
    fn the_hottest_sensor_counts_and_what_was_not_measured_is_absent() {
        let gpu = |temperature_c| Gpu { name: String::new(), utilization: None, memory: None, temperature_c };
        let vitals = Vitals {
            cpu: None,
            memory: Some(0.5),
            disk: None,
            temperature_c: Some(41.6),
            load: None,
            uptime_s: None,
            gpus: vec![gpu(None), gpu(Some(70.4))],
            sampled_at: SystemTime::UNIX_EPOCH,
        };
        assert_eq!(strain(&vitals), (Some(500_000), Some(70)));
        let cold = Vitals { temperature_c: Some(-5.0), gpus: Vec::new(), ..vitals.clone() };
        assert_eq!(strain(&cold).1, Some(0));
        let blind = Vitals { memory: None, temperature_c: None, gpus: Vec::new(), ..vitals };
        assert_eq!(strain(&blind), (None, None));
    }
}
