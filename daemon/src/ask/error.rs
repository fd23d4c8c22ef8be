//! Why a prompt has no answer.

use synesis_privacy::RedactError;

use super::SinkError;
use crate::adapters::AdapterError;
use crate::escalation::EscalationError;
use crate::model::ModelError;
use crate::route::RefuseWhy;
use crate::sessions::SessionError;

/// Why a prompt has no (whole) answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is nothing to answer.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// A message is by nobody we know.
    #[error("message {0} has an unknown role; known are system, user, assistant and tool")]
    UnknownRole(usize),
    /// A number that makes no sense.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// A part of the request that cannot be what it should be.
    #[error("{0}")]
    Malformed(&'static str),
    /// The schema is no JSON.
    #[error("the JSON schema is not JSON")]
    Schema(#[source] serde_json::Error),
    /// The router found no place for it.
    #[error("{reason}")]
    Refused {
        /// Which rule.
        why: RefuseWhy,
        /// One sentence.
        reason: String,
        /// What to do.
        next_step: String,
    },
    /// The session cannot take it.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The adapter cannot be used.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The cloud is to answer with an adapter that is not there.
    #[error("the adapter \"{0}\" is not at the gateway")]
    NotPushed(String),
    /// The local model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It cannot be redacted, so it cannot be sent.
    #[error(transparent)]
    Redact(#[from] RedactError),
    /// The escalation failed.
    #[error(transparent)]
    Escalation(#[from] EscalationError),
    /// Nobody takes the answer any more, or it has no end.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

impl AskError {
    /// The privacy rules did not compile: nothing may leave, and nothing can be previewed.
    pub fn rules_unusable() -> Self {
        Self::Refused {
            why: RefuseWhy::DetectorsFailed,
            reason: "the privacy rules are not usable, so nothing may leave this device".to_owned(),
            next_step: "ask with --local, and report this with the daemon's log".to_owned(),
        }
    }
}
