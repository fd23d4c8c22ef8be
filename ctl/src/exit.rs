//! The exit codes: the one table that says which failure ends `synctl` with which number. Scripts rely on it, so
//! a number never changes its meaning. `--help` prints the same table.

use std::fmt::Write as _;
use std::process::ExitCode;

use synesis_proto::{Problem, reason};
use tonic::Code;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unreachable = 3,
    NotEnrolled = 4,
    Permission = 5,
    Offline = 6,
    Budget = 7,
    Privacy = 8,
    NotFound = 9,
    TimedOut = 124,
    Interrupted = 130,
}

/// Every exit code with its meaning, in the order of the help text.
const MEANINGS: &[(Exit, &str)] = &[
    (Exit::Done, "done"),
    (Exit::Failed, "failed"),
    (Exit::Usage, "the command line or its input is wrong"),
    (Exit::Unreachable, "the daemon cannot be reached"),
    (Exit::NotEnrolled, "not enrolled, or revoked"),
    (Exit::Permission, "no permission"),
    (Exit::Offline, "offline: the gateway cannot be reached"),
    (Exit::Budget, "budget, quota or ceiling reached"),
    (Exit::Privacy, "refused by the privacy policy"),
    (Exit::NotFound, "not found"),
    (Exit::TimedOut, "timed out"),
    (Exit::Interrupted, "interrupted"),
];

/// What the daemon says is wrong, by its stable reason.
const BY_REASON: &[(&str, Exit)] = &[
    (reason::EMPTY_PROMPT, Exit::Usage),
    (reason::BAD_REQUEST, Exit::Usage),
    (reason::PROMPT_TOO_LONG, Exit::Failed),
    (reason::NO_MODEL, Exit::Failed),
    (reason::MODEL_NOT_READY, Exit::Failed),
    (reason::MODEL_CRASHED, Exit::Failed),
    (reason::MODEL_INVALID, Exit::Failed),
    (reason::BUSY, Exit::Failed),
    (reason::MODEL_TOO_LARGE, Exit::Failed),
    (reason::MODEL_NOT_FOUND, Exit::NotFound),
    (reason::MODEL_EXISTS, Exit::Failed),
    (reason::MODEL_IN_USE, Exit::Failed),
    (reason::SOURCE_FAILED, Exit::Failed),
    (reason::DIGEST_MISMATCH, Exit::Failed),
    (reason::DISK_FULL, Exit::Failed),
    (reason::NO_EMBEDDINGS, Exit::Failed),
    (reason::CONSTRAINT_INVALID, Exit::Usage),
    (reason::UNSUPPORTED, Exit::Usage),
    (reason::NOT_ENROLLED, Exit::NotEnrolled),
    (reason::REVOKED, Exit::NotEnrolled),
    (reason::TOKEN_REFUSED, Exit::NotEnrolled),
    (reason::TOKEN_EXPIRED, Exit::NotEnrolled),
    (reason::GATEWAY_UNTRUSTED, Exit::NotEnrolled),
    (reason::ALREADY_ENROLLED, Exit::Failed),
    (reason::OFFLINE, Exit::Offline),
    (reason::GATEWAY_UNREACHABLE, Exit::Offline),
    (reason::INTERRUPTED, Exit::Offline),
    (reason::DAILY_LIMIT, Exit::Budget),
    (reason::CEILING_REACHED, Exit::Budget),
    (reason::QUOTA_EXHAUSTED, Exit::Budget),
    (reason::PRIVACY_REFUSED, Exit::Privacy),
    (reason::CONSENT_REQUIRED, Exit::Privacy),
    (reason::PROVIDER_FAILED, Exit::Failed),
    (reason::GATEWAY_REFUSED, Exit::Failed),
    (reason::ADAPTER_NOT_FOUND, Exit::NotFound),
    (reason::ADAPTER_INVALID, Exit::Failed),
    (reason::ADAPTER_EXISTS, Exit::Failed),
    (reason::ADAPTER_IN_USE, Exit::Failed),
    (reason::ADAPTER_QUOTA, Exit::Budget),
    (reason::GENERATION_CHANGED, Exit::Failed),
    (reason::FORBIDDEN, Exit::Permission),
    (reason::RATE_LIMITED, Exit::Failed),
    (reason::STORE_FAILED, Exit::Failed),
    (reason::STOPPING, Exit::Unreachable),
    (reason::INTERNAL, Exit::Failed),
];

impl Exit {
    /// The number itself.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The exit code for what the daemon answered: its reason decides; a reason this version does not know, or
    /// none, falls back to the gRPC code.
    pub(crate) fn of(problem: &Problem) -> Self {
        BY_REASON
            .iter()
            .find(|(reason, _)| *reason == problem.reason)
            .map_or_else(|| Self::of_code(problem.code), |(_, exit)| *exit)
    }

    fn of_code(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::Usage,
            Code::Unavailable => Self::Unreachable,
            Code::Unauthenticated => Self::NotEnrolled,
            Code::PermissionDenied => Self::Permission,
            Code::NotFound => Self::NotFound,
            Code::DeadlineExceeded => Self::TimedOut,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table as `--help` shows it.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for (exit, meaning) in MEANINGS {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:>3}  {meaning}", exit.code());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit_of(code: Code, reason: &str) -> u8 {
        Exit::of(&Problem::new(code, reason, "what happened", "")).code()
    }

    /// The contract: one line for each code that an answer of the daemon can lead to.
    #[test]
    fn each_exit_code_of_the_contract_is_reached_by_its_reasons() {
        let table: &[(u8, &[&str])] = &[
            (1, &["MODEL_CRASHED", "PROMPT_TOO_LONG", "ADAPTER_INVALID", "PROVIDER_FAILED", "INTERNAL"]),
            (2, &["EMPTY_PROMPT", "BAD_REQUEST"]),
            (3, &["STOPPING"]),
            (4, &["NOT_ENROLLED", "REVOKED", "TOKEN_REFUSED", "TOKEN_EXPIRED", "GATEWAY_UNTRUSTED"]),
            (5, &["FORBIDDEN"]),
            (6, &["OFFLINE", "GATEWAY_UNREACHABLE", "INTERRUPTED"]),
            (7, &["DAILY_LIMIT", "CEILING_REACHED", "QUOTA_EXHAUSTED"]),
            (8, &["PRIVACY_REFUSED", "CONSENT_REQUIRED"]),
            (9, &["ADAPTER_NOT_FOUND"]),
        ];
        for (expected, reasons) in table {
            for reason in *reasons {
                assert_eq!(exit_of(Code::Unknown, reason), *expected, "{reason}");
            }
        }
    }

    #[test]
    fn every_reason_of_the_registry_has_exactly_one_row() {
        for reason in reason::ALL {
            let rows = BY_REASON.iter().filter(|(name, _)| name == reason).count();
            assert_eq!(rows, 1, "{reason}");
        }
        assert_eq!(BY_REASON.len(), reason::ALL.len());
    }

    #[test]
    fn a_reason_from_a_newer_daemon_falls_back_to_the_status_code() {
        let table = [
            (Code::InvalidArgument, 2),
            (Code::Unavailable, 3),
            (Code::Unauthenticated, 4),
            (Code::PermissionDenied, 5),
            (Code::NotFound, 9),
            (Code::DeadlineExceeded, 124),
            (Code::ResourceExhausted, 1),
            (Code::FailedPrecondition, 1),
            (Code::Internal, 1),
        ];
        for (code, expected) in table {
            assert_eq!(exit_of(code, "FROM_THE_FUTURE"), expected, "{code:?}");
        }
    }

    #[test]
    fn the_reason_wins_over_the_status_code() {
        assert_eq!(exit_of(Code::Unavailable, reason::OFFLINE), 6);
    }

    #[test]
    fn the_help_lists_every_code_with_its_number() {
        let numbers: Vec<u8> = MEANINGS.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 124, 130]);
        assert!(help().contains("124  timed out"), "{}", help());
    }
}
