//! The second look: the local model has begun (or could not begin), and what it showed is weighed. Pure, as [`route`].

use serde::{Deserialize, Serialize};

use super::{AGREES_PPM, CloudWhy, Decision, Inputs, LocalWhy};
use super::{looks_for_the_better_place, may_leave_unasked, route};

/// What became known after the first decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Evidence {
    /// How sure the local model is of the beginning of its answer.
    Confidence {
        /// Tokens looked at; fewer than wanted when the answer was shorter.
        tokens: u32,
        /// Their mean probability: the exponential of the mean of their log probabilities, in millionths.
        confidence_ppm: u32,
    },
    /// What further local samples say.
    Agreement {
        /// Of each sample with the answer, in millionths ([`overlap`](super::overlap)).
        overlaps_ppm: Vec<u32>,
    },
    /// The local model takes no more requests for now.
    QueueFull {
        /// When it may, in milliseconds; 0: it did not say.
        retry_after_ms: u32,
    },
    /// The cloud did not answer, and had not said a word.
    EscalationFailed,
}

/// What the evidence means for a local answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may be shown.
    Stay,
    /// The cloud should answer instead.
    Escalate(CloudWhy),
}

/// What to look at before a local answer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cascade {
    /// So many tokens of its beginning; 0: none.
    pub confidence_tokens: u32,
    /// So many more samples; 0: none.
    pub agreement_samples: u32,
}

impl Cascade {
    /// Whether there is anything to look at.
    pub const fn is_off(self) -> bool {
        self.confidence_tokens == 0 && self.agreement_samples == 0
    }
}

/// What to look at, for a request decided on `inputs`. Nothing when the answer could not be replaced anyway: then
/// waiting for a verdict would only cost time.
pub fn cascade(inputs: &Inputs) -> Cascade {
    if route(inputs) != Decision::Local(LocalWhy::GoodEnough) || !is_free(inputs) {
        return Cascade::default();
    }
    let limits = &inputs.thresholds;
    let when = |threshold: u32, many: u32| if threshold > 0 { many } else { 0 };
    Cascade {
        confidence_tokens: when(limits.min_confidence_ppm, limits.confidence_tokens),
        agreement_samples: when(limits.min_agreement_ppm, limits.agreement_samples),
    }
}

/// Weighs one piece of evidence. Total, and it escalates only what may leave unasked.
pub fn judge(inputs: &Inputs, evidence: &Evidence) -> Verdict {
    let limits = &inputs.thresholds;
    let doubt = match evidence {
        Evidence::Confidence { confidence_ppm, .. } => {
            (*confidence_ppm < limits.min_confidence_ppm).then_some(CloudWhy::LowConfidence)
        }
        Evidence::Agreement { overlaps_ppm } => {
            (agreement(overlaps_ppm) < limits.min_agreement_ppm).then_some(CloudWhy::LowAgreement)
        }
        Evidence::QueueFull { .. } => (limits.max_wait_ms > 0).then_some(CloudWhy::LocalBusy),
        Evidence::EscalationFailed => None,
    };
    match doubt {
        Some(why) if is_free(inputs) => Verdict::Escalate(why),
        _ => Verdict::Stay,
    }
}

/// The decision with all evidence, in the order in which it came: what a recorded decision is compared with.
pub fn settle(inputs: &Inputs, evidence: &[Evidence]) -> Decision {
    evidence.iter().fold(route(inputs), |decision, evidence| match (decision, evidence) {
        (Decision::Cloud(why), Evidence::EscalationFailed) if why.has_local_model_behind_it() => {
            Decision::Local(LocalWhy::EscalationFailed)
        }
        (Decision::Local(LocalWhy::GoodEnough | LocalWhy::Confident), evidence) => {
            match (judge(inputs, evidence), evidence) {
                (Verdict::Escalate(why), _) => Decision::Cloud(why),
                (Verdict::Stay, Evidence::Confidence { .. } | Evidence::Agreement { .. }) => {
                    Decision::Local(LocalWhy::Confident)
                }
                (Verdict::Stay, Evidence::QueueFull { .. } | Evidence::EscalationFailed) => decision,
            }
        }
        (decision, _) => decision,
    })
}

/// The router may replace a local answer by one from the cloud, without asking anybody.
fn is_free(inputs: &Inputs) -> bool {
    looks_for_the_better_place(inputs) && may_leave_unasked(inputs)
}

/// The share of samples that agree, in millionths; of no samples all of them.
fn agreement(overlaps_ppm: &[u32]) -> u32 {
    let (all, agreeing) = (overlaps_ppm.len(), overlaps_ppm.iter().filter(|ppm| **ppm >= AGREES_PPM).count());
    match all {
        0 => 1_000_000,
        // A share of at most 1,000,000.
        _ => u32::try_from(agreeing * 1_000_000 / all).unwrap_or(1_000_000),
    }
}
