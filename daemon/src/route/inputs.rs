//! What a decision depends on. Everything here is a whole number or an enum: a recorded input reads back as itself.

use serde::{Deserialize, Serialize};

use crate::config::{Consent, Routing, RoutingPolicy};

/// What the request itself asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// A wish of a request that no cloud answer can fulfil.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalFeature {
    /// An adapter of this device.
    Adapter,
    /// How strongly the adapter is applied.
    AdapterScale,
    /// A prompt without a chat template.
    RawPrompt,
    /// An answer that follows a grammar.
    Grammar,
    /// The same tokens under any load.
    Deterministic,
    /// Log probabilities of the tokens.
    Logprobs,
    /// Sampling from the likeliest so many.
    TopK,
    /// Sampling from those at least so likely.
    MinP,
    /// What was said is less likely.
    RepeatPenalty,
}

impl LocalFeature {
    /// As a sentence names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Adapter => "an adapter",
            Self::AdapterScale => "an adapter scale",
            Self::RawPrompt => "a raw prompt",
            Self::Grammar => "a grammar",
            Self::Deterministic => "deterministic mode",
            Self::Logprobs => "log probabilities",
            Self::TopK => "top_k",
            Self::MinP => "min_p",
            Self::RepeatPenalty => "a repeat penalty",
        }
    }
}

/// The thresholds of `[routing]`. In each, 0 switches the rule off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Mean token probability below which a local answer is given up, in millionths.
    pub min_confidence_ppm: u32,
    /// Tokens of the answer that are looked at for that.
    pub confidence_tokens: u32,
    /// Share of samples that have to agree with the answer, in millionths.
    pub min_agreement_ppm: u32,
    /// Samples drawn for that.
    pub agreement_samples: u32,
    /// Longest wait for the local model, in milliseconds.
    pub max_wait_ms: u32,
    /// Share of memory in use, in millionths.
    pub max_memory_ppm: u32,
    /// In degrees Celsius.
    pub max_temperature_c: u32,
}

impl From<&Routing> for Thresholds {
    fn from(routing: &Routing) -> Self {
        Self {
            min_confidence_ppm: ppm(routing.min_confidence),
            confidence_tokens: routing.confidence_tokens,
            min_agreement_ppm: ppm(routing.min_agreement),
            agreement_samples: routing.agreement_samples,
            max_wait_ms: routing.max_wait_ms,
            max_memory_ppm: ppm(routing.max_memory),
            max_temperature_c: routing.max_temperature_c,
        }
    }
}

/// Everything the first decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// What the request wants that only a local answer can have; none: nothing.
    pub local_only: Option<LocalFeature>,
    /// Until the local model would start on it, in milliseconds; none: not asked, because no threshold needs it, or not
    /// known.
    pub wait_ms: Option<u32>,
    /// Share of memory in use, in millionths; none: not measured.
    pub memory_ppm: Option<u32>,
    /// The hottest sensor, in whole degrees Celsius, freezing at the least; none: not measured.
    pub temperature_c: Option<u32>,
    /// The rules' numbers.
    pub thresholds: Thresholds,
}

/// A share as parts per million, rounded. What is no share (below 0, above 1, not a number) becomes the nearest one,
/// and 0 for what is not a number.
pub fn ppm(share: f64) -> u32 {
    // The clamp keeps the product within 0 to 1,000,000; a float that is no number casts to 0.
    (share.clamp(0.0, 1.0) * 1e6).round() as u32
}
