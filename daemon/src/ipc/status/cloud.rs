//! The refusals of everything that reaches beyond this device: routing, escalation, enrolment, money.

mod enrolment;
mod transfers;

use synesis_ledger::NanoUsd;
use synesis_mesh::device::{OpenError, PingError, TunnelState, TunnelStatus};
use synesis_mesh::kind::ErrorCode;
use synesis_privacy::RedactError;
use synesis_proto::{Problem, reason};
use tonic::Code;

use crate::ask::{AskError, SinkError};
use crate::budget::LimitReached;
use crate::escalation::EscalationError;
use crate::journal::JournalError;
use crate::route::RefuseWhy;
use crate::sessions::SessionError;
use crate::tunnel::{EnrolmentError, Unanswered};

const ASK_LOCALLY: &str = "ask with --local, or look at `synctl tunnel status`";
/// Of a sentence that somebody else wrote, in characters.
const LONGEST_SENTENCE: usize = 300;

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        let message = error.to_string();
        match error {
            AskError::EmptyPrompt => {
                Problem::new(Code::InvalidArgument, reason::EMPTY_PROMPT, message, "write a prompt")
            }
            AskError::Schema(_) => Problem::new(
                Code::InvalidArgument,
                reason::CONSTRAINT_INVALID,
                message,
                "correct the schema; {} takes any JSON",
            ),
            AskError::UnknownRole(_) | AskError::OutOfRange(_) | AskError::Malformed(_) => {
                Problem::new(Code::InvalidArgument, reason::BAD_REQUEST, message, "correct the request")
            }
            AskError::Refused { why, reason, next_step } => refused(why, reason, next_step),
            AskError::Session(SessionError::TooMany { .. }) => Problem::new(
                Code::ResourceExhausted,
                reason::BUSY,
                message,
                "wait until one of their answers has ended, or ask without a session",
            ),
            AskError::Session(SessionError::TooLong { .. }) => Problem::new(
                Code::InvalidArgument,
                reason::PROMPT_TOO_LONG,
                message,
                "shorten the prompt, or start a new session",
            ),
            AskError::Adapter(error) => error.into(),
            AskError::NotPushed(name) => Problem::new(
                Code::NotFound,
                reason::ADAPTER_NOT_FOUND,
                message,
                format!(
                    "synctl adapter push {name} brings it there; synctl adapter list --cloud shows what is"
                ),
            ),
            AskError::Model(error) => error.into(),
            AskError::Redact(error) => not_redacted(&error),
            AskError::Escalation(error) => error.into(),
            AskError::Sink(error) => not_taken(error),
        }
    }
}

fn refused(why: RefuseWhy, message: String, next_step: String) -> Problem {
    let (code, reason) = match why {
        RefuseWhy::NoModel => (Code::FailedPrecondition, reason::NO_MODEL),
        RefuseWhy::ModelFailed => (Code::FailedPrecondition, reason::MODEL_INVALID),
        RefuseWhy::PromptTooLong { .. } => (Code::InvalidArgument, reason::PROMPT_TOO_LONG),
        RefuseWhy::Unsupported(_) => (Code::InvalidArgument, reason::UNSUPPORTED),
        RefuseWhy::ConsentNever => (Code::PermissionDenied, reason::CONSENT_REQUIRED),
        RefuseWhy::DetectorsFailed => (Code::FailedPrecondition, reason::PRIVACY_REFUSED),
        RefuseWhy::NotEnrolled => (Code::FailedPrecondition, reason::NOT_ENROLLED),
        RefuseWhy::Revoked => (Code::FailedPrecondition, reason::REVOKED),
        RefuseWhy::Offline => (Code::Unavailable, reason::OFFLINE),
        RefuseWhy::DailyLimit => (Code::ResourceExhausted, reason::DAILY_LIMIT),
    };
    Problem::new(code, reason, message, next_step)
}

fn not_taken(error: SinkError) -> Problem {
    let (code, next_step) = match error {
        SinkError::CallerGone => (Code::Cancelled, "ask again"),
        SinkError::NotRead => (Code::Aborted, "ask again, and read the answer as it comes"),
        SinkError::TooLong => (Code::OutOfRange, "ask for a shorter answer"),
    };
    Problem::new(code, reason::INTERRUPTED, error.to_string(), next_step)
}

fn not_redacted(error: &RedactError) -> Problem {
    Problem::new(
        Code::FailedPrecondition,
        reason::PRIVACY_REFUSED,
        format!("this cannot be redacted, so it is not sent: {error}"),
        "ask with --local, or start a new session",
    )
}

impl From<LimitReached> for Problem {
    fn from(error: LimitReached) -> Self {
        Problem::new(
            Code::ResourceExhausted,
            reason::DAILY_LIMIT,
            error.to_string(),
            "ask with --local, wait for tomorrow (UTC), or raise billing.daily_limit_usd",
        )
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        tracing::error!(error = crate::log::chain(&error), "the journal failed");
        Problem::new(
            Code::Unavailable,
            reason::STORE_FAILED,
            "the journal cannot take or give the record, so nothing is sent",
            "check the disk below paths.state_dir; `synctl status` says more, and local answers go on",
        )
    }
}

impl From<EscalationError> for Problem {
    fn from(error: EscalationError) -> Self {
        let message = error.to_string();
        match error {
            EscalationError::NotEnrolled => EnrolmentError::NotEnrolled.into(),
            EscalationError::Tunnel(error) => not_opened(&error),
            EscalationError::Limit(error) => error.into(),
            EscalationError::Journal(error) => error.into(),
            EscalationError::Refused { code, message, next_step, retry_after } => {
                let problem = gateway_said(code, message, next_step);
                Problem { retry_after, ..problem }
            }
            EscalationError::OverLimit { left } => over_limit(left),
            EscalationError::TooLong { .. } => Problem::new(
                Code::InvalidArgument,
                reason::PROMPT_TOO_LONG,
                message,
                "shorten the prompt, or start a new session",
            ),
            EscalationError::Interrupted | EscalationError::Stream(_) | EscalationError::Silent => {
                Problem::new(
                    Code::Unavailable,
                    reason::INTERRUPTED,
                    message,
                    "ask again when `synctl tunnel status` says up; what it cost is reconciled by itself",
                )
            }
            EscalationError::Protocol(_) => Problem::new(
                Code::Internal,
                reason::GATEWAY_REFUSED,
                message,
                "update synesisd and the gateway to versions that belong together",
            ),
            EscalationError::TooSlow(_) => {
                Problem::new(Code::DeadlineExceeded, reason::INTERRUPTED, message, "ask for a shorter answer")
            }
            EscalationError::Sink(error) => not_taken(error),
        }
    }
}

fn over_limit(left: NanoUsd) -> Problem {
    Problem::new(
        Code::ResourceExhausted,
        reason::DAILY_LIMIT,
        format!("the answer could cost more than the {left} that the daily limit leaves"),
        "ask for fewer tokens (--max-tokens), ask with --local, or raise billing.daily_limit_usd",
    )
}

/// The gateway's refusals in the vocabulary of the local API. Its sentence is meant for people and is passed on.
fn gateway_said(code: Option<ErrorCode>, message: String, next_step: String) -> Problem {
    use ErrorCode as E;
    let (status, reason, advice) = match code {
        Some(E::CeilingReached) => (
            Code::ResourceExhausted,
            reason::CEILING_REACHED,
            "ask the account's owner to raise the ceiling, or ask with --local",
        ),
        Some(E::QuotaExhausted) => (
            Code::ResourceExhausted,
            reason::QUOTA_EXHAUSTED,
            "wait for the next month, change the tier, or ask with --local",
        ),
        Some(E::ProviderUnavailable | E::ProviderRejected) => {
            (Code::Unavailable, reason::PROVIDER_FAILED, "try again later, or ask with --local")
        }
        Some(E::Revoked) => {
            (Code::FailedPrecondition, reason::REVOKED, "ask the gateway's operator for a new token")
        }
        Some(E::UnknownDevice) => {
            (Code::FailedPrecondition, reason::NOT_ENROLLED, "run `synctl unenroll`, then `synctl enroll`")
        }
        Some(E::AdapterUnknown) => (
            Code::NotFound,
            reason::ADAPTER_NOT_FOUND,
            "push it with `synctl adapter push`; `synctl adapter list --cloud` shows what is there",
        ),
        Some(E::AdapterQuota) => (
            Code::ResourceExhausted,
            reason::ADAPTER_QUOTA,
            "remove one with `synctl adapter rm --cloud`, or have the quota raised",
        ),
        Some(E::AdapterUnusable) => {
            (Code::FailedPrecondition, reason::ADAPTER_INVALID, "ask without --adapter, or ask with --local")
        }
        Some(E::DigestMismatch) => {
            (Code::DataLoss, reason::DIGEST_MISMATCH, "push it again; it is then sent from the beginning")
        }
        Some(E::RateLimited) => {
            (Code::ResourceExhausted, reason::RATE_LIMITED, "wait a moment, then ask again")
        }
        Some(E::TooLarge) => (Code::InvalidArgument, reason::PROMPT_TOO_LONG, "shorten the prompt"),
        Some(E::Draining | E::StoreFailed | E::DeadlineExceeded) => {
            (Code::Unavailable, reason::GATEWAY_UNREACHABLE, "ask again in a moment, or ask with --local")
        }
        _ => (
            Code::FailedPrecondition,
            reason::GATEWAY_REFUSED,
            "look at the gateway's log for this request id",
        ),
    };
    let otherwise = format!("the gateway answered {}", code.map_or("an unknown code", ErrorCode::as_str));
    Problem::new(status, reason, plain(&message, &otherwise), plain(&next_step, advice))
}

/// A sentence of the gateway's as the local API shows sentences: one line, not endless, without a period.
fn plain(text: &str, otherwise: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).take(LONGEST_SENTENCE).collect();
    let text = text.trim().trim_end_matches('.');
    if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
}

fn not_opened(error: &OpenError) -> Problem {
    match error {
        OpenError::Offline(status) => offline(status),
        OpenError::Busy => Problem::new(
            Code::ResourceExhausted,
            reason::BUSY,
            "too many requests are open on the tunnel",
            "wait until one of them has ended, then ask again",
        ),
        OpenError::Stream(_) => {
            Problem::new(Code::Unavailable, reason::OFFLINE, "the tunnel was lost", ASK_LOCALLY)
        }
    }
}

impl From<Unanswered> for Problem {
    fn from(Unanswered(error): Unanswered) -> Self {
        match error {
            PingError::Offline(status) => offline(&status),
            PingError::Lost => Problem::new(
                Code::Unavailable,
                reason::OFFLINE,
                "the tunnel was lost before the gateway answered the ping",
                "look at `synctl tunnel status`; the tunnel reconnects by itself",
            ),
            PingError::TimedOut => Problem::new(
                Code::Unavailable,
                reason::GATEWAY_UNREACHABLE,
                "the gateway did not answer the ping",
                "look at `synctl tunnel status`; the tunnel reconnects by itself",
            ),
        }
    }
}

fn offline(status: &TunnelStatus) -> Problem {
    let because = |default: &str| status.reason.clone().unwrap_or_else(|| default.to_owned());
    let (code, reason, message) = match status.state {
        TunnelState::Unenrolled => return EnrolmentError::NotEnrolled.into(),
        TunnelState::Revoked => {
            (Code::FailedPrecondition, reason::REVOKED, because("the gateway revoked this device"))
        }
        _ => (Code::Unavailable, reason::OFFLINE, format!("offline: {}", because("the tunnel is not up"))),
    };
    Problem::new(code, reason, message, status.next_step.clone().unwrap_or_else(|| ASK_LOCALLY.to_owned()))
}

#[cfg(test)]
mod tests;
