//! Where a prompt runs, and why: pure functions of what is known, over whole numbers and enums only, so that a decision
//! can be explained, logged, and made again bit for bit. [`route`] decides when a prompt arrives; [`judge`] decides
//! again when the local model has shown what it can do; [`settle`] is both, one after the other.

mod agreement;
mod inputs;
mod judge;
#[cfg(test)]
mod tests;
mod why;

pub use agreement::{AGREES_PPM, overlap};
pub use inputs::{Fit, Inputs, LocalFeature, Mode, ModelHealth, Thresholds, Uplink, ppm};
pub use judge::{Cascade, Evidence, Verdict, cascade, judge, settle};
pub use why::{CloudWhy, Decision, LocalWhy, RefuseWhy};

use crate::config::{Consent, RoutingPolicy};

/// Decides. Total: every input has exactly one outcome.
pub fn route(inputs: &Inputs) -> Decision {
    let local = local_obstacle(inputs);
    match (inputs.mode, inputs.policy) {
        (Mode::Local, _) => local.map_or(Decision::Local(LocalWhy::Requested), Decision::Refuse),
        (Mode::Cloud, _) => {
            cloud_obstacle(inputs).map_or(Decision::Cloud(CloudWhy::Requested), Decision::Refuse)
        }
        (Mode::Unspecified, RoutingPolicy::Local) => {
            local.map_or(Decision::Local(LocalWhy::Policy), Decision::Refuse)
        }
        (Mode::Unspecified, RoutingPolicy::Ask) => {
            local.map_or(Decision::Local(LocalWhy::GoodEnough), Decision::Refuse)
        }
        (Mode::Unspecified, RoutingPolicy::Cloud) => prefer_cloud(inputs, local),
        (Mode::Auto, _) | (Mode::Unspecified, RoutingPolicy::Auto) => prefer_local(inputs, local),
    }
}

fn prefer_cloud(inputs: &Inputs, local: Option<RefuseWhy>) -> Decision {
    match local {
        _ if may_leave_unasked(inputs) => Decision::Cloud(CloudWhy::Policy),
        // P3: the box keeps working offline, whatever it would prefer.
        None if inputs.local_only.is_some() => Decision::Local(LocalWhy::OnlyHere),
        None => Decision::Local(LocalWhy::CloudUnavailable),
        Some(why) => Decision::Refuse(why),
    }
}

fn prefer_local(inputs: &Inputs, local: Option<RefuseWhy>) -> Decision {
    let cloud = may_leave_unasked(inputs);
    match (local, strain(inputs)) {
        (None, Some(why)) if cloud => Decision::Cloud(why),
        (None, Some(_)) => Decision::Local(LocalWhy::CloudUnavailable),
        (None, None) => Decision::Local(LocalWhy::GoodEnough),
        (Some(_), _) if cloud => Decision::Cloud(match inputs.fit {
            Fit::TooLong { .. } => CloudWhy::PromptTooLong,
            Fit::Unknown | Fit::Fits => CloudWhy::NoLocalModel,
        }),
        (Some(why), _) => Decision::Refuse(why),
    }
}

/// What speaks against one more prompt on this device right now, the most pressing first: heat lasts, memory kills, a
/// queue passes.
fn strain(inputs: &Inputs) -> Option<CloudWhy> {
    let limits = &inputs.thresholds;
    let reached = |value: Option<u32>, limit: u32| limit > 0 && value.is_some_and(|value| value >= limit);
    if reached(inputs.temperature_c, limits.max_temperature_c) {
        return Some(CloudWhy::DeviceHot);
    }
    if reached(inputs.memory_ppm, limits.max_memory_ppm) {
        return Some(CloudWhy::MemoryShort);
    }
    // A wait of exactly the limit is still within it.
    let waits = limits.max_wait_ms > 0 && inputs.wait_ms.is_some_and(|wait| wait > limits.max_wait_ms);
    waits.then_some(CloudWhy::LocalBusy)
}

/// Whether the policy lets the router itself look for the better place.
fn looks_for_the_better_place(inputs: &Inputs) -> bool {
    matches!((inputs.mode, inputs.policy), (Mode::Auto, _) | (Mode::Unspecified, RoutingPolicy::Auto))
}

/// Without `--cloud` the prompt leaves only where that needs no question.
fn may_leave_unasked(inputs: &Inputs) -> bool {
    inputs.consent == Consent::Auto && cloud_obstacle(inputs).is_none()
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
    if let Some(feature) = inputs.local_only {
        return Some(RefuseWhy::Unsupported(feature));
    }
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
