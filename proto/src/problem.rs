//! How an error crosses a gRPC boundary: a status code, a stable machine-readable reason, a sentence, and
//! the next step. The reason and the next step travel as `google.rpc.ErrorInfo`, and the time after which to come
//! back as `google.rpc.RetryInfo`, so any client can read them.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every reason, as `google.rpc.ErrorInfo` asks for.
const DOMAIN: &str = "synesis";
const NEXT_STEP: &str = "next_step";

/// An error as the other side of a socket sees it. Internal text never gets in here by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The gRPC status code.
    pub code: Code,
    /// Stable and machine-readable: `UPPER_SNAKE_CASE`, never reworded.
    pub reason: String,
    /// What happened, as one sentence without a period.
    pub message: String,
    /// What to do next; may be empty.
    pub next_step: String,
    /// When to come back, for a refusal that passes by itself.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A problem from its four parts.
    pub fn new(
        code: Code,
        reason: impl Into<String>,
        message: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: message.into(),
            next_step: next_step.into(),
            retry_after: None,
        }
    }

    /// The same with the time after which it makes sense to come back.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    /// Reads a problem back from a status. A status that did not come from a [`Problem`] (a dead peer, say)
    /// keeps its code and message, and has an empty reason.
    pub fn from_status(status: &Status) -> Self {
        let info = status.get_details_error_info();
        let (reason, next_step) = match info {
            Some(info) if info.domain == DOMAIN => {
                let next = info.metadata.get(NEXT_STEP).cloned().unwrap_or_default();
                (info.reason, next)
            }
            _ => (String::new(), String::new()),
        };
        let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        Self { code: status.code(), reason, message: status.message().to_owned(), next_step, retry_after }
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let mut metadata = HashMap::new();
        if !problem.next_step.is_empty() {
            metadata.insert(NEXT_STEP.to_owned(), problem.next_step);
        }
        let mut details = ErrorDetails::with_error_info(problem.reason, DOMAIN, metadata);
        if let Some(time) = problem.retry_after {
            details.set_retry_info(Some(time));
        }
        Status::with_error_details(problem.code, problem.message, details)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.next_step.is_empty() {
            write!(f, "; {}", self.next_step)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_survives_the_trip_through_a_status() {
        let problem = Problem::new(Code::NotFound, "ADAPTER_NOT_FOUND", "no such adapter", "run list");
        assert_eq!(Problem::from_status(&problem.clone().into()), problem);
        let later = problem.retry_after(Duration::from_millis(1500));
        assert_eq!(Problem::from_status(&later.clone().into()), later);
    }

    #[test]
    fn a_foreign_status_keeps_its_code_and_message() {
        let problem = Problem::from_status(&Status::unavailable("gone"));
        assert_eq!(problem, Problem::new(Code::Unavailable, "", "gone", ""));
    }
}
