//! What a device is told when something does not work: one place that maps errors to `mesh.v1.Problem`. Internal
//! text stays in the log.

use std::time::Duration;

use synesis_ledger::Refused;
use synesis_mesh::kind::ErrorCode;
use synesis_proto::mesh::v1::Problem;

use crate::control_plane::ControlError;
use crate::failure::chain;
use crate::providers::ProviderError;

/// A refusal of the control plane. What the operator has to look at is logged here, once.
pub(crate) fn of_control(error: &ControlError) -> Problem {
    let (code, next_step) = match error {
        ControlError::DeviceUnknown => (ErrorCode::UnknownDevice, "enrol the device again"),
        ControlError::DeviceRevoked => {
            (ErrorCode::Revoked, "ask the gateway's operator; a new token enrols it again")
        }
        ControlError::CertificateUnknown => {
            (ErrorCode::UnknownDevice, "enrol the device again with a new token")
        }
        ControlError::RenewedTooOften(_) => {
            let mut problem = ErrorCode::RateLimited.problem(chain(error), "it is tried again by itself");
            problem.retry_after_ms = RENEW_AGAIN_MS;
            return problem;
        }
        ControlError::TokenInvalid => (ErrorCode::TokenInvalid, "check that the whole token was copied"),
        ControlError::TokenExpired => (ErrorCode::TokenExpired, "ask for a new token"),
        ControlError::TokenUsed => {
            (ErrorCode::TokenUsed, "ask for a new token; each enrols only so many devices")
        }
        ControlError::Csr(_) => {
            (ErrorCode::CsrInvalid, "enrol with a P-256 key and a correctly signed request")
        }
        ControlError::NoPrice(_) => (ErrorCode::ModelUnknown, "ask for another model"),
        ControlError::RequestKnown { .. } => {
            (ErrorCode::RequestKnown, "ask for the receipt of this request, or use a new request id")
        }
        ControlError::OverDeviceLimit { .. } => {
            (ErrorCode::OverMaxCharge, "ask for fewer tokens, or raise the device's own limit")
        }
        ControlError::Refused(Refused::CeilingReached { .. }) => {
            (ErrorCode::CeilingReached, "ask for fewer tokens, or have the account's ceiling raised")
        }
        ControlError::Refused(Refused::QuotaExhausted { .. }) => {
            (ErrorCode::QuotaExhausted, "wait for the next month, or change the account's tier")
        }
        ControlError::AdapterUnknown(_) => (
            ErrorCode::AdapterUnknown,
            "synctl adapter list --cloud shows what there is; synctl adapter push NAME brings one",
        ),
        ControlError::AdapterQuota { .. } => {
            (ErrorCode::AdapterQuota, "remove one (synctl adapter rm --cloud NAME), or have the quota raised")
        }
        ControlError::Overflow(_) | ControlError::Refused(Refused::Overflow(_)) => {
            (ErrorCode::TooLarge, "ask for fewer tokens")
        }
        ControlError::AccountExists(_)
        | ControlError::AccountName(_)
        | ControlError::AccountUnknown(_)
        | ControlError::NotHeld
        | ControlError::Settle(_)
        | ControlError::Certificate(_)
        | ControlError::ReceiptKey(_)
        | ControlError::Random(_)
        | ControlError::Corrupt(_)
        | ControlError::Store(_)
        | ControlError::Sqlite(_) => {
            tracing::error!(error = chain(error), "the control plane failed");
            let code = match error {
                ControlError::Store(_) | ControlError::Sqlite(_) => ErrorCode::StoreFailed,
                _ => ErrorCode::Internal,
            };
            return code.problem("the gateway could not do its bookkeeping", "try again in a little while");
        }
    };
    code.problem(chain(error), next_step)
}

/// When a device that renewed too often may ask again.
const RENEW_AGAIN_MS: u64 = 3_600_000;

/// A failed call to a model provider.
pub(crate) fn of_provider(error: &ProviderError) -> Problem {
    let (code, next_step) = match error {
        ProviderError::TooLong { .. } => (ErrorCode::TooLarge, "shorten the prompt, or ask for fewer tokens"),
        ProviderError::Unfit { .. } => (
            ErrorCode::AdapterUnusable,
            "ask without --adapter, ask for a model that it was made for, or ask with --local",
        ),
        ProviderError::Credentials { .. } => {
            (ErrorCode::ProviderRejected, "tell the gateway's operator: the provider's key needs replacing")
        }
        ProviderError::Refused { .. } | ProviderError::Declined { .. } => {
            (ErrorCode::ProviderRejected, "change the request, or ask for another model")
        }
        ProviderError::Failing { status: 429, .. } | ProviderError::Busy { .. } => {
            (ErrorCode::RateLimited, "try again in a little while")
        }
        error if error.retryable() => (ErrorCode::ProviderUnavailable, "try again in a little while"),
        _ => (ErrorCode::ProviderRejected, "tell the gateway's operator; another model may work"),
    };
    let mut problem = code.problem(error.to_string(), next_step);
    let retry_after = error.retry_after().map(|after| after.min(LONGEST_RETRY_AFTER));
    problem.retry_after_ms =
        retry_after.map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    problem
}

/// A provider cannot make a device wait for longer than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use synesis_ledger::NanoUsd;

    use super::*;

    #[test]
    fn the_three_token_errors_are_told_apart() {
        for (error, code) in [
            (ControlError::TokenInvalid, ErrorCode::TokenInvalid),
            (ControlError::TokenExpired, ErrorCode::TokenExpired),
            (ControlError::TokenUsed, ErrorCode::TokenUsed),
        ] {
            let problem = of_control(&error);
            assert_eq!(problem.code, code.number());
            assert!(!problem.next_step.is_empty());
        }
    }

    #[test]
    fn a_reached_ceiling_says_the_amounts() {
        let dollars = |n: i64| NanoUsd::from_i64(n * 1_000_000_000);
        let refused = Refused::CeilingReached {
            asked: dollars(2),
            ceiling: dollars(1),
            unbilled: NanoUsd::ZERO,
            held: NanoUsd::ZERO,
            credits: NanoUsd::ZERO,
        };
        let problem = of_control(&refused.into());
        assert_eq!(problem.code, ErrorCode::CeilingReached.number());
        assert!(
            problem.message.contains("$2.00") && problem.message.contains("$1.00"),
            "{}",
            problem.message
        );
    }

    #[test]
    fn internal_text_stays_inside() {
        let problem = of_control(&ControlError::Corrupt("row 7 of table x".to_owned()));
        assert!(!problem.message.contains("row 7"), "{}", problem.message);
    }

    #[test]
    fn a_rate_limited_provider_passes_its_wish_on() {
        let error = ProviderError::from_status(429, String::new(), Some(Duration::from_secs(7)));
        let problem = of_provider(&error);
        assert_eq!((problem.code, problem.retry_after_ms), (ErrorCode::RateLimited.number(), 7_000));
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let message = "64 requests wait".to_owned();
        let error = ProviderError::Busy { message, retry_after: Some(Duration::from_millis(1_500)) };
        let problem = of_provider(&error);
        assert_eq!((problem.code, problem.retry_after_ms), (ErrorCode::RateLimited.number(), 1_500));
        assert!(problem.message.contains("64 requests wait"), "{}", problem.message);
    }
}
