//! Why a dial or a connection failed: one sentence for people, one verdict for the state machine. The only place
//! that reads QUIC's and TLS's error codes.

use std::io;
use std::time::Duration;

use synesis_proto::mesh::v1;

use crate::carrier::ConnectionLost;
use crate::frame::FrameError;
use crate::identity::IdentityError;
use crate::kind::ErrorCode;
use crate::tls::{CertificateFault, TlsError};

const ALERT_NO_APPLICATION_PROTOCOL: u64 = 120;

/// A gateway cannot make a device stay away for longer than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

const ENROLL_AGAIN: &str = "enrol this device again with a new token";

/// What the state machine has to know about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may work the next time.
    Retry,
    /// The same, but others probably met it in the same moment (the gateway restarted), and should not all come back at
    /// once.
    RetryInTurn,
    /// It will not work until somebody changes something; trying goes on, slowly.
    Refused,
    /// The identity was taken back; trying stops.
    Revoked,
}

impl Verdict {
    /// Whether trying again can help although nobody changes anything.
    pub(super) const fn may_pass(self) -> bool {
        matches!(self, Self::Retry | Self::RetryInTurn)
    }
}

/// A failed dial or a lost connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Failure {
    /// What to make of it.
    pub(super) verdict: Verdict,
    /// Whether the gateway failed our check of its certificate.
    pub(super) untrusted: bool,
    /// Whether all that is wrong is that this device's certificate has expired.
    pub(super) expired: bool,
    /// What happened, as a sentence without a period.
    pub(super) reason: String,
    /// What to do about it.
    pub(super) next_step: String,
    /// How long the gateway asked to be left alone.
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(verdict: Verdict, reason: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self {
            verdict,
            untrusted: false,
            expired: false,
            reason: reason.into(),
            next_step: next_step.into(),
            retry_after: None,
        }
    }

    pub(super) fn unreachable(gateway: &str, why: &str) -> Self {
        let next = format!("check that the gateway runs and that UDP to {gateway} is open");
        Self::new(Verdict::Retry, format!("the gateway {gateway} could not be reached: {why}"), next)
    }

    /// TCP, instead of UDP, did not get through either. A stranger may be listening there: never a refusal.
    pub(super) fn tcp(gateway: &str, why: &str) -> Self {
        let next = format!("check that the gateway runs and that UDP to {gateway}, or its TCP port, is open");
        Self::new(Verdict::Retry, why, next)
    }

    /// The proxy did not let us through.
    pub(super) fn proxy(proxy: &str, why: &str, next_step: impl Into<String>) -> Self {
        Self::new(Verdict::Retry, format!("through the proxy {proxy}: {why}"), next_step)
    }

    /// The same for both carriers; what to do about TCP is what to do.
    pub(super) fn and_over_tcp(self, tcp: Self) -> Self {
        Self::new(self.verdict, format!("{}; over TCP: {}", self.reason, tcp.reason), tcp.next_step)
    }

    pub(super) fn unresolved(gateway: &str, error: &io::Error) -> Self {
        let next = "check the gateway's name and this device's DNS";
        Self::new(Verdict::Retry, format!("the gateway {gateway} could not be resolved: {error}"), next)
    }

    pub(super) fn lost(why: impl Into<String>) -> Self {
        Self::new(Verdict::Retry, why, "nothing to do: it reconnects by itself")
    }

    /// Lost together with others.
    pub(super) fn lost_with_others(why: impl Into<String>) -> Self {
        Self { verdict: Verdict::RetryInTurn, ..Self::lost(why) }
    }

    /// A problem the gateway stated.
    pub(super) fn problem(problem: &v1::Problem) -> Self {
        let retry_after = Some(Duration::from_millis(problem.retry_after_ms).min(LONGEST_RETRY_AFTER));
        let retry_after = retry_after.filter(|wait| !wait.is_zero());
        Self { retry_after, ..Self::stated(problem.code.into(), &problem.message, &problem.next_step) }
    }

    fn stated(code: u64, text: &str, next_step: &str) -> Self {
        let known = ErrorCode::from_number(code);
        let name = known.map_or_else(|| format!("code {code}"), |code| code.as_str().to_owned());
        let text = if text.is_empty() { name } else { format!("{text} ({name})") };
        let verdict = match known {
            Some(ErrorCode::Revoked) => Verdict::Revoked,
            Some(code) if !code.retryable() => Verdict::Refused,
            _ => Verdict::Retry,
        };
        let next = match (next_step, known) {
            ("", Some(ErrorCode::Revoked | ErrorCode::UnknownDevice)) => ENROLL_AGAIN,
            ("", Some(ErrorCode::CertificateExpired)) => "nothing to do: it is renewed by itself",
            ("", Some(ErrorCode::VersionUnsupported)) => "update this device or the gateway",
            ("", _) => "see the gateway's log",
            (stated, _) => stated,
        };
        match known {
            Some(ErrorCode::CertificateExpired) => {
                let reason = format!("this device's certificate has expired: {text}");
                Self { expired: true, ..Self::new(verdict, reason, next) }
            }
            Some(ErrorCode::Draining) => Self::lost_with_others(format!("the gateway is going away: {text}")),
            _ => Self::new(verdict, format!("the gateway ended the connection: {text}"), next),
        }
    }

    /// A connection that failed or ended.
    pub(super) fn connection(gateway: &str, lost: &ConnectionLost) -> Self {
        match lost {
            ConnectionLost::Closed { code, reason } => Self::stated(*code, reason, ""),
            // Our side refused the gateway's handshake.
            ConnectionLost::Untrusted(why) => {
                let reason = format!("the gateway {gateway} did not prove itself: {why}");
                let next = "check the address and this device's clock; if the gateway has a new CA, enrol again with it";
                Self { untrusted: true, ..Self::new(Verdict::Refused, reason, next) }
            }
            // The gateway refused ours.
            ConnectionLost::Alert(alert) => Self::certificate_refused(*alert),
            ConnectionLost::Refused => {
                let reason = format!("the gateway {gateway} takes nobody in now: it is full, or going away");
                Self::new(Verdict::Retry, reason, "nothing to do: it tries again by itself")
            }
            ConnectionLost::TimedOut => Self::unreachable(gateway, "no answer"),
            ConnectionLost::Forgotten => Self::lost_with_others("the gateway restarted"),
            ConnectionLost::Version => {
                Self::new(Verdict::Refused, "no QUIC version in common", "update this device or the gateway")
            }
            ConnectionLost::Local | ConnectionLost::Failed(_) => {
                Self::lost(format!("the connection was lost: {lost}"))
            }
        }
    }

    fn certificate_refused(alert: u64) -> Self {
        let refused = |why: &dyn std::fmt::Display, next: &str| {
            let reason = format!("the gateway refused this device's certificate: {why}");
            Self::new(Verdict::Refused, reason, next)
        };
        match (alert, CertificateFault::from_alert(alert)) {
            (ALERT_NO_APPLICATION_PROTOCOL, _) => Self::new(
                Verdict::Refused,
                "the gateway does not speak this device's protocol",
                "update this device or the gateway",
            ),
            (_, Some(fault @ CertificateFault::NotYetValid)) => {
                refused(&fault, "have the gateway's operator check its clock; then enrol this device again")
            }
            (_, Some(fault)) => refused(&fault, ENROLL_AGAIN),
            (alert, None) => refused(&format_args!("TLS alert {alert}"), ENROLL_AGAIN),
        }
    }

    /// A control stream that failed.
    pub(super) fn frame(gateway: &str, error: &FrameError) -> Self {
        match error {
            FrameError::ConnectionLost(error) => Self::connection(gateway, error),
            FrameError::Refused(problem) => Self::problem(problem),
            other => Self::lost(format!("the control stream failed: {other}")),
        }
    }

    pub(super) fn identity(error: &TlsError) -> Self {
        Self::new(Verdict::Refused, format!("this device's identity is not usable: {error}"), ENROLL_AGAIN)
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::identity(&TlsError::from(error))
    }
}
