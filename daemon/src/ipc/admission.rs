//! Whether a caller may make a call now, whichever door it came through: role, rate, calls in progress. What was
//! admitted writes its audit line when it ends.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;
use tracing::Span;

use super::authorization::{self, Audit, Method};
use super::in_progress::{Full, InProgress, Place};
use super::limit::RateLimit;
use super::{Caller, Role};

/// Why a call does not get through.
#[derive(Debug, Error)]
pub(crate) enum GateError {
    #[error("the caller is unknown")]
    Unidentified,
    #[error("not in the table of methods")]
    UnknownMethod,
    #[error("a {role} may not, it takes a {least}")]
    Forbidden { role: Role, least: Role },
    #[error("too many requests of this user")]
    TooOften { wait: Duration },
    #[error("too many calls in progress")]
    TooMany,
    #[error("too many calls of this user in progress")]
    TooManyOfOne,
}

/// The limits of this daemon. Clones share them, so that a user has one allowance and not one per door.
#[derive(Debug, Clone)]
pub struct AdmissionControl {
    limits: Arc<Limits>,
}

#[derive(Debug)]
struct Limits {
    rate: RateLimit,
    calls: InProgress,
}

impl AdmissionControl {
    /// With so many requests per minute for each user.
    pub fn new(requests_per_minute: u32) -> Self {
        let rate = RateLimit::per_minute(requests_per_minute);
        Self { limits: Arc::new(Limits { rate, calls: InProgress::default() }) }
    }

    /// Whether `caller` may make the call that the table lists as `path` now. Its audit line is written in `span`.
    ///
    /// # Errors
    /// Why not. Refused calls count against the rate as well: trying doors is not free.
    pub(crate) fn admit(
        &self,
        path: &str,
        caller: Option<Caller>,
        span: Span,
    ) -> Result<(Caller, Admission), GateError> {
        let caller = caller.ok_or(GateError::Unidentified)?;
        self.limits.rate.take(caller.uid).map_err(|wait| GateError::TooOften { wait })?;
        let method = authorization::find(path).ok_or(GateError::UnknownMethod)?;
        if caller.role < method.least {
            return Err(GateError::Forbidden { role: caller.role, least: method.least });
        }
        let place = self.limits.calls.enter(&caller).map_err(|full| match full {
            Full::All => GateError::TooMany,
            Full::Own => GateError::TooManyOfOne,
        })?;
        Ok((caller, Admission { method, begun: Instant::now(), span, outcome: None, _place: place }))
    }
}

/// One admitted call, from its admission to its end, whichever way it ends.
#[derive(Debug)]
pub(crate) struct Admission {
    method: &'static Method,
    begun: Instant,
    span: Span,
    outcome: Option<String>,
    _place: Place,
}

impl Admission {
    /// It ended, and so.
    pub(crate) fn ended(&mut self, outcome: String) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let _in_span = self.span.enter();
        let ms = self.begun.elapsed().as_millis() as u64;
        // No outcome: the client went away first.
        let code = self.outcome.as_deref().unwrap_or("cancelled by the client");
        match self.method.audit {
            Audit::Changes => {
                tracing::info!(target: "synesisd::audit", method = self.method.path, code, ms, "call")
            }
            Audit::Reads => {
                tracing::debug!(target: "synesisd::audit", method = self.method.path, code, ms, "call")
            }
        }
    }
}
