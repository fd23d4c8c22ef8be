//! The outcomes and their reasons. The names are a promise to scripts and to recorded decisions: never renamed.

use super::LocalFeature;

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
    /// It answered, and is sure enough of it.
    Confident,
    /// The cloud would be preferred, and cannot be used now.
    CloudUnavailable,
    /// The policy prefers the cloud, and only the local model can do what is wanted.
    OnlyHere,
    /// It was to go to the cloud, and that failed before the first word.
    EscalationFailed,
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
    /// The local model would begin too late.
    LocalBusy,
    /// The device is too hot for more work.
    DeviceHot,
    /// The device is short of memory.
    MemoryShort,
    /// The local model is unsure of its answer.
    LowConfidence,
    /// The local model says something else each time.
    LowAgreement,
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
    /// The request asks for the cloud, and for something that no cloud answer can have.
    Unsupported(LocalFeature),
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

impl Decision {
    /// `local`, `cloud` or `refuse`.
    pub const fn place(self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Cloud(_) => "cloud",
            Self::Refuse(_) => "refuse",
        }
    }

    /// Stable, machine-readable.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Local(why) => why.as_str(),
            Self::Cloud(why) => why.as_str(),
            Self::Refuse(why) => why.as_str(),
        }
    }
}

impl LocalWhy {
    /// Stable, machine-readable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested_local",
            Self::Policy => "policy_local",
            Self::GoodEnough => "local_can_answer",
            Self::Confident => "local_confident",
            Self::CloudUnavailable => "cloud_unavailable",
            Self::OnlyHere => "only_local_can",
            Self::EscalationFailed => "escalation_failed",
        }
    }

    /// One sentence for a person.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Requested => "the request asked for a local answer",
            Self::Policy => "the routing policy keeps prompts on this device",
            Self::GoodEnough => "the local model is ready and the prompt fits",
            Self::Confident => "the local model answered and is sure enough of it",
            Self::CloudUnavailable => "the cloud is preferred, but it cannot be used right now",
            Self::OnlyHere => "the policy prefers the cloud, but only the local model can do what is asked",
            Self::EscalationFailed => {
                "it was to go to the cloud, but that failed, so the local model answered"
            }
        }
    }

    /// What would change it; may be empty.
    pub const fn next_step(self) -> &'static str {
        match self {
            Self::CloudUnavailable | Self::EscalationFailed => {
                "`synctl tunnel status` and `synctl billing balance` say more"
            }
            Self::Requested | Self::Policy | Self::GoodEnough | Self::Confident | Self::OnlyHere => "",
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
            Self::LocalBusy => "local_busy",
            Self::DeviceHot => "device_hot",
            Self::MemoryShort => "memory_short",
            Self::LowConfidence => "low_confidence",
            Self::LowAgreement => "low_agreement",
        }
    }

    /// One sentence for a person.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Requested => "the request asked for the cloud",
            Self::Policy => "the routing policy prefers the cloud",
            Self::PromptTooLong => "the prompt does not fit the local model's context",
            Self::NoLocalModel => "no local model can answer",
            Self::LocalBusy => "the local model would start later than routing.max_wait_ms allows",
            Self::DeviceHot => "the device has reached routing.max_temperature_c",
            Self::MemoryShort => "the device has reached routing.max_memory",
            Self::LowConfidence => {
                "the local model is less sure of its answer than routing.min_confidence asks for"
            }
            Self::LowAgreement => {
                "samples of the local model agree less with its answer than routing.min_agreement asks for"
            }
        }
    }

    /// Whether the local model could have answered as well, so that it does when the cloud fails.
    pub const fn has_local_model_behind_it(self) -> bool {
        match self {
            Self::LocalBusy
            | Self::DeviceHot
            | Self::MemoryShort
            | Self::LowConfidence
            | Self::LowAgreement => true,
            Self::Requested | Self::Policy | Self::PromptTooLong | Self::NoLocalModel => false,
        }
    }
}

impl RefuseWhy {
    /// Stable, machine-readable, in recorded decisions; a caller gets a reason of the registry instead.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoModel => "no_model",
            Self::ModelFailed => "model_failed",
            Self::PromptTooLong { .. } => "prompt_too_long",
            Self::Unsupported(_) => "unsupported_in_cloud",
            Self::ConsentNever => "consent_never",
            Self::DetectorsFailed => "detectors_failed",
            Self::NotEnrolled => "not_enrolled",
            Self::Revoked => "revoked",
            Self::Offline => "offline",
            Self::DailyLimit => "daily_limit",
        }
    }
}
