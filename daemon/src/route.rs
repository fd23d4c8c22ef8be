//! Where a prompt runs, and why: a pure function of what is known when it arrives, so that a decision can be
//! explained, logged and replayed.

use crate::config::{Consent, RoutingPolicy};

/// What the request itself asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Nothing; the configured policy decides.
    #[default]
    Unspecified,
    /// Local when it is good enough, cloud when it is not, whatever the policy.
    Auto,
    /// Here or not at all.
    Local,
    /// In the cloud or not at all. It is also the user's consent to this one escalation.
    Cloud,
}

/// What the local model can do right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelHealth {
    /// No model is configured.
    None,
    /// Loading or restarting; worth waiting for.
    Starting,
    /// It answers.
    Ready,
    /// It cannot be loaded.
    Failed,
}

/// Whether the prompt fits the local model's context window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Not counted: the model could not be asked.
    Unknown,
    /// With room for an answer.
    Fits,
    /// Prompt and at least one token of answer do not fit.
    TooLong {
        /// Tokens of the prompt with its template.
        tokens: u32,
        /// The window.
        window: u32,
    },
}

/// What the tunnel can do right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uplink {
    /// This device has no identity.
    Unenrolled,
    /// The gateway took the identity back.
    Revoked,
    /// Enrolled, and not connected.
    Down,
    /// Connected.
    Up,
}

/// Everything the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inputs {
    /// What the request asks for.
    pub mode: Mode,
    /// `routing.policy`.
    pub policy: RoutingPolicy,
    /// `privacy.consent`.
    pub consent: Consent,
    /// Whether the privacy rules are usable; without them nothing may leave.
    pub detectors_ready: bool,
    /// The local model.
    pub model: ModelHealth,
    /// The prompt against its window.
    pub fit: Fit,
    /// The tunnel.
    pub uplink: Uplink,
    /// Whether the device's daily limit leaves anything to spend.
    pub budget_left: bool,
}

/// The outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// On this device.
    Local(LocalWhy),
    /// Redacted, through the tunnel.
    Cloud(CloudWhy),
    /// Not at all.
    Refuse(RefuseWhy),
}

/// Why it stays here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalWhy {
    /// The request asked for it.
    Requested,
    /// The policy is to stay here.
    Policy,
    /// The local model can answer.
    GoodEnough,
    /// The policy prefers the cloud, which cannot be used now.
    CloudUnavailable,
}

/// Why it goes to the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudWhy {
    /// The request asked for it.
    Requested,
    /// The policy prefers the cloud.
    Policy,
    /// It does not fit the local model.
    PromptTooLong,
    /// There is no local model that answers.
    NoLocalModel,
}

/// Why it runs nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefuseWhy {
    /// No model is configured, and the cloud is not an option.
    NoModel,
    /// The model cannot be loaded, and the cloud is not an option.
    ModelFailed,
    /// It does not fit the local model, and the cloud is not an option.
    PromptTooLong {
        /// Tokens of the prompt with its template.
        tokens: u32,
        /// The window.
        window: u32,
    },
    /// `privacy.consent` is `never`.
    ConsentNever,
    /// The privacy rules are not usable, so nothing may leave.
    DetectorsFailed,
    /// This device has no identity.
    NotEnrolled,
    /// The identity was taken back.
    Revoked,
    /// The tunnel is not up.
    Offline,
    /// The device's daily limit is used up.
    DailyLimit,
}

impl LocalWhy {
    /// Stable, machine-readable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested_local",
            Self::Policy => "policy_local",
            Self::GoodEnough => "local_can_answer",
            Self::CloudUnavailable => "cloud_unavailable",
        }
    }

    /// One sentence for a person.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Requested => "the request asked for a local answer",
            Self::Policy => "the routing policy keeps prompts on this device",
            Self::GoodEnough => "the local model is ready and the prompt fits",
            Self::CloudUnavailable => "the policy prefers the cloud, but it cannot be used right now",
        }
    }
}

impl CloudWhy {
    /// Stable, machine-readable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested_cloud",
            Self::Policy => "policy_cloud",
            Self::PromptTooLong => "prompt_too_long_for_local",
            Self::NoLocalModel => "no_local_model",
        }
    }

    /// One sentence for a person.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Requested => "the request asked for the cloud",
            Self::Policy => "the routing policy prefers the cloud",
            Self::PromptTooLong => "the prompt does not fit the local model's context",
            Self::NoLocalModel => "no local model can answer",
        }
    }
}

/// Decides. Total: every input has exactly one outcome.
pub fn route(inputs: &Inputs) -> Decision {
    let local = local_obstacle(inputs);
    let cloud = cloud_obstacle(inputs);
    match inputs.mode {
        Mode::Local => local.map_or(Decision::Local(LocalWhy::Requested), Decision::Refuse),
        Mode::Cloud => cloud.map_or(Decision::Cloud(CloudWhy::Requested), Decision::Refuse),
        Mode::Auto => auto(inputs, local, may_escalate_unasked(inputs, cloud)),
        Mode::Unspecified => match inputs.policy {
            RoutingPolicy::Local => local.map_or(Decision::Local(LocalWhy::Policy), Decision::Refuse),
            RoutingPolicy::Cloud if may_escalate_unasked(inputs, cloud) => Decision::Cloud(CloudWhy::Policy),
            // P3: the box keeps working offline, whatever it would prefer.
            RoutingPolicy::Cloud => {
                local.map_or(Decision::Local(LocalWhy::CloudUnavailable), Decision::Refuse)
            }
            RoutingPolicy::Ask => auto(inputs, local, false),
            RoutingPolicy::Auto => auto(inputs, local, may_escalate_unasked(inputs, cloud)),
        },
    }
}

fn auto(inputs: &Inputs, local: Option<RefuseWhy>, cloud: bool) -> Decision {
    match local {
        None => Decision::Local(LocalWhy::GoodEnough),
        Some(_) if cloud => Decision::Cloud(match inputs.fit {
            Fit::TooLong { .. } => CloudWhy::PromptTooLong,
            Fit::Unknown | Fit::Fits => CloudWhy::NoLocalModel,
        }),
        Some(why) => Decision::Refuse(why),
    }
}

/// Without `--cloud` the prompt leaves only where that needs no question.
fn may_escalate_unasked(inputs: &Inputs, obstacle: Option<RefuseWhy>) -> bool {
    obstacle.is_none() && inputs.consent == Consent::Auto
}

fn local_obstacle(inputs: &Inputs) -> Option<RefuseWhy> {
    match (inputs.model, inputs.fit) {
        (ModelHealth::None, _) => Some(RefuseWhy::NoModel),
        (ModelHealth::Failed, _) => Some(RefuseWhy::ModelFailed),
        (_, Fit::TooLong { tokens, window }) => Some(RefuseWhy::PromptTooLong { tokens, window }),
        (ModelHealth::Starting | ModelHealth::Ready, Fit::Unknown | Fit::Fits) => None,
    }
}

/// The first reason against the cloud, the most lasting one first.
fn cloud_obstacle(inputs: &Inputs) -> Option<RefuseWhy> {
    if inputs.consent == Consent::Never {
        return Some(RefuseWhy::ConsentNever);
    }
    if !inputs.detectors_ready {
        return Some(RefuseWhy::DetectorsFailed);
    }
    match inputs.uplink {
        Uplink::Unenrolled => Some(RefuseWhy::NotEnrolled),
        Uplink::Revoked => Some(RefuseWhy::Revoked),
        Uplink::Down => Some(RefuseWhy::Offline),
        Uplink::Up if !inputs.budget_left => Some(RefuseWhy::DailyLimit),
        Uplink::Up => None,
    }
}

#[cfg(test)]
mod tests;
