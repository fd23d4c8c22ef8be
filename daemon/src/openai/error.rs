//! The error envelope of the OpenAI API: what happened, what to do next, and a status that clients know what to do
//! with. Whatever else went wrong is a [`Problem`] by the time it comes here.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use synesis_proto::{Problem, reason};
use tonic::Code;

use super::request::RequestError;

/// A refusal as a client of this endpoint sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    /// OpenAI's own word where it has one, else our reason in lower case.
    code: String,
    /// Which field of the request.
    param: Option<String>,
    /// What happened, and the next step.
    message: String,
    retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'a str,
}

impl ApiError {
    /// A refusal without a field.
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), param: None, message: message.into(), retry_after: None }
    }

    /// The envelope as JSON.
    pub(super) fn json(&self) -> String {
        let error = Inner {
            message: &self.message,
            r#type: self.kind(),
            param: self.param.as_deref(),
            code: &self.code,
        };
        // Strings only: there is nothing in it that JSON cannot say.
        serde_json::to_string(&Envelope { error }).unwrap_or_default()
    }

    /// The class of error that clients tell apart.
    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::PAYMENT_REQUIRED => "insufficient_quota",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The seconds of `Retry-After`: never less than asked for.
    fn seconds(&self) -> Option<u64> {
        let least = (self.status == StatusCode::TOO_MANY_REQUESTS).then_some(Duration::from_secs(1));
        let wait = self.retry_after.max(least)?;
        Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.seconds() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let message = error.to_string();
        let bad =
            |code: &str, param, message| Self { param, ..Self::new(StatusCode::BAD_REQUEST, code, message) };
        match error {
            RequestError::NotJson(cause) => {
                bad("bad_request", None, format!("{message}: {cause}; correct it and send it again"))
            }
            RequestError::Missing { param, .. } => {
                bad("missing_parameter", Some(param), format!("{message}; add it"))
            }
            RequestError::WrongType { param, .. } => {
                bad("invalid_value", Some(param), format!("{message}; correct it"))
            }
            RequestError::Unsupported { param, .. } => bad("unsupported", Some(param), message),
            RequestError::Dimensions { .. } => bad("unsupported", Some("dimensions".to_owned()), message),
            RequestError::Both { param, .. } => {
                bad("invalid_value", Some(param), format!("{message}; leave one of them out"))
            }
            RequestError::UnknownModel(_) => Self {
                param: Some("model".to_owned()),
                ..Self::new(
                    StatusCode::NOT_FOUND,
                    "model_not_found",
                    format!("{message}; GET /v1/models lists those that do"),
                )
            },
        }
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        let reason = problem.reason.as_str();
        let status = status(problem.code, reason);
        let code = match reason {
            reason::PROMPT_TOO_LONG => "context_length_exceeded".to_owned(),
            reason::ADAPTER_NOT_FOUND | reason::MODEL_NOT_FOUND => "model_not_found".to_owned(),
            reason::RATE_LIMITED => "rate_limit_exceeded".to_owned(),
            "" => "internal".to_owned(),
            reason => reason.to_ascii_lowercase(),
        };
        Self { retry_after: problem.retry_after, ..Self::new(status, &code, problem.to_string()) }
    }
}

/// What a client should make of it: 4xx needs somebody to change something, 429 and 5xx may pass by themselves, which is
/// why clients try those again.
fn status(code: Code, reason: &str) -> StatusCode {
    match reason {
        reason::DAILY_LIMIT | reason::CEILING_REACHED | reason::QUOTA_EXHAUSTED => {
            return StatusCode::PAYMENT_REQUIRED;
        }
        // Nothing is wrong with the request: the device cannot answer it as it is.
        reason::NO_MODEL | reason::MODEL_INVALID | reason::MODEL_TOO_LARGE => {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        reason::NO_EMBEDDINGS | reason::UNSUPPORTED | reason::CONSTRAINT_INVALID => {
            return StatusCode::BAD_REQUEST;
        }
        reason::BUSY | reason::RATE_LIMITED => return StatusCode::TOO_MANY_REQUESTS,
        _ => {}
    }
    match code {
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        // Not enrolled, revoked, refused by the privacy rules or the gateway: this device may not.
        Code::PermissionDenied | Code::FailedPrecondition => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable | Code::Aborted | Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: Code, reason: &str) -> ApiError {
        Problem::new(code, reason, "it happened", "do this").into()
    }

    #[test]
    fn every_problem_has_the_status_that_clients_act_on() {
        for (code, reason, status, kind, said) in [
            (Code::InvalidArgument, reason::EMPTY_PROMPT, 400, "invalid_request_error", "empty_prompt"),
            (
                Code::InvalidArgument,
                reason::PROMPT_TOO_LONG,
                400,
                "invalid_request_error",
                "context_length_exceeded",
            ),
            (Code::FailedPrecondition, reason::NO_EMBEDDINGS, 400, "invalid_request_error", "no_embeddings"),
            (Code::FailedPrecondition, reason::UNSUPPORTED, 400, "invalid_request_error", "unsupported"),
            (Code::ResourceExhausted, reason::DAILY_LIMIT, 402, "insufficient_quota", "daily_limit"),
            (Code::ResourceExhausted, reason::CEILING_REACHED, 402, "insufficient_quota", "ceiling_reached"),
            (Code::ResourceExhausted, reason::QUOTA_EXHAUSTED, 402, "insufficient_quota", "quota_exhausted"),
            (Code::PermissionDenied, reason::FORBIDDEN, 403, "permission_error", "forbidden"),
            (Code::PermissionDenied, reason::CONSENT_REQUIRED, 403, "permission_error", "consent_required"),
            (Code::FailedPrecondition, reason::NOT_ENROLLED, 403, "permission_error", "not_enrolled"),
            (Code::FailedPrecondition, reason::PRIVACY_REFUSED, 403, "permission_error", "privacy_refused"),
            (Code::NotFound, reason::ADAPTER_NOT_FOUND, 404, "invalid_request_error", "model_not_found"),
            (Code::ResourceExhausted, reason::BUSY, 429, "rate_limit_error", "busy"),
            (Code::ResourceExhausted, reason::RATE_LIMITED, 429, "rate_limit_error", "rate_limit_exceeded"),
            (Code::Internal, reason::INTERNAL, 500, "server_error", "internal"),
            (Code::Unknown, "", 500, "server_error", "internal"),
            (Code::FailedPrecondition, reason::NO_MODEL, 503, "server_error", "no_model"),
            (Code::Aborted, reason::MODEL_CRASHED, 503, "server_error", "model_crashed"),
            (Code::Unavailable, reason::OFFLINE, 503, "server_error", "offline"),
            (Code::DeadlineExceeded, reason::MODEL_NOT_READY, 504, "server_error", "model_not_ready"),
        ] {
            let error = problem(code, reason);
            assert_eq!(
                (error.status.as_u16(), error.kind(), error.code.as_str()),
                (status, kind, said),
                "{reason}"
            );
            assert_eq!(error.message, "it happened; do this");
        }
    }

    #[test]
    fn the_envelope_has_all_four_fields() {
        let error: ApiError = RequestError::WrongType { param: "n".to_owned(), expected: "a number" }.into();
        assert_eq!(
            error.json(),
            r#"{"error":{"message":"`n` has to be a number; correct it","type":"invalid_request_error","param":"n","code":"invalid_value"}}"#
        );
        let error: ApiError = RequestError::UnknownModel("x\"y".to_owned()).into();
        assert_eq!(error.status, StatusCode::NOT_FOUND);
        assert!(error.json().ends_with(r#""param":"model","code":"model_not_found"}}"#), "{}", error.json());
    }

    #[test]
    fn who_is_too_early_is_told_when_to_come_back() {
        let after = |wait: Option<Duration>| {
            let problem = Problem::new(Code::ResourceExhausted, reason::BUSY, "busy", "wait");
            let problem = wait.map_or(problem.clone(), |wait| problem.retry_after(wait));
            ApiError::from(problem).into_response().headers()[RETRY_AFTER].clone()
        };
        assert_eq!(after(None), "1");
        assert_eq!(after(Some(Duration::from_millis(100))), "1");
        assert_eq!(after(Some(Duration::from_millis(2_001))), "3");
        let headers = problem(Code::Unavailable, reason::OFFLINE).into_response();
        assert!(headers.headers().get(RETRY_AFTER).is_none());
    }
}
