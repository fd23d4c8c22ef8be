//! What every request passes before a handler sees it: who asks (the kernel's word on the socket, the token on the
//! loopback port), the same roles, limits and audit as on the control socket, and a request id.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use tracing::Instrument as _;
use ulid::Ulid;

use super::error::ApiError;
use super::host;
use super::token::Token;
use crate::ipc::call::Call;
use crate::ipc::{Admission, AdmissionControl, Caller, GateError, REQUEST_ID, Role, status};

/// Who holds the token shares sessions and allowance with everybody who does, and with no user of this machine: the
/// kernel gives this id to nobody who could connect to the socket.
const HOLDER: u32 = u32::MAX - 1;
/// `(uid_t) -1`: no user at all.
const STRANGER: u32 = u32::MAX;

/// How a connection came in; in the extensions of each of its requests.
#[derive(Debug, Clone)]
pub(super) enum Door {
    /// Over the socket: the kernel says who it is.
    Socket(Caller),
    /// Over the loopback port: a token says so.
    Loopback(Arc<Token>),
}

impl Door {
    /// Who is counted for a connection before it has said anything.
    pub(super) fn caller(&self) -> Caller {
        match self {
            Self::Socket(caller) => *caller,
            Self::Loopback(_) => Caller { uid: STRANGER, gid: STRANGER, pid: None, role: Role::Guest },
        }
    }

    /// Who makes this request.
    fn caller_of(&self, request: &Request) -> Caller {
        match self {
            Self::Loopback(token) if bearer(request).is_some_and(|given| token.is(given)) => {
                Caller { uid: HOLDER, gid: HOLDER, pid: None, role: Role::User }
            }
            Self::Socket(_) | Self::Loopback(_) => self.caller(),
        }
    }
}

fn bearer(request: &Request) -> Option<&[u8]> {
    let (scheme, token) = request.headers().get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// The row in the table of the local API that says who may do this. What is not here is found nowhere, which everybody
/// may know.
fn counterpart(path: &str) -> &'static str {
    match path.trim_end_matches('/') {
        "/v1/chat/completions" | "/v1/completions" => "/synesis.control.v1.Inference/Ask",
        "/v1/embeddings" => "/synesis.control.v1.Inference/Embed",
        path if path == "/v1/models" || path.starts_with("/v1/models/") => {
            "/synesis.control.v1.Adapters/List"
        }
        _ => "/grpc.health.v1.Health/Check",
    }
}

/// The middleware.
pub(super) async fn pass(
    State(control): State<AdmissionControl>,
    mut request: Request,
    next: Next,
) -> Result<Response, Infallible> {
    let id = Ulid::generate();
    let door = request.extensions().get::<Door>().cloned();
    let caller = door.as_ref().map(|door| door.caller_of(&request));
    let span = tracing::info_span!("call", id = %id, uid = caller.map(|caller| caller.uid));
    let path = request.uri().path();
    let over_loopback = matches!(door, Some(Door::Loopback(_)));
    let admitted = match over_loopback && !host::is_ours(&request) {
        true => Err(not_ours()),
        false => control
            .admit(counterpart(path), caller, span.clone())
            .map_err(|error| refused(error, over_loopback, caller)),
    };
    let response = match admitted {
        Ok((caller, admission)) => {
            request.extensions_mut().insert(Call { id, caller });
            let response = next.run(request).instrument(span).await;
            let status = response.status();
            response.map(|body| Body::new(Audited { body, status, admission }))
        }
        Err(error) => {
            let _in_span = span.enter();
            let pid = caller.and_then(|caller| caller.pid);
            tracing::warn!(target: "synesisd::audit", path, pid, "request refused");
            error.into_response()
        }
    };
    Ok(with_id(response, id))
}

fn not_ours() -> ApiError {
    let message = "the request is addressed to another host; use 127.0.0.1 or localhost in the base URL";
    ApiError::new(StatusCode::FORBIDDEN, "wrong_host", message)
}

/// On the loopback port, a guest is somebody without the right token.
fn refused(error: GateError, over_loopback: bool, caller: Option<Caller>) -> ApiError {
    let stranger = caller.is_none_or(|caller| caller.uid == STRANGER);
    match error {
        GateError::Forbidden { .. } if over_loopback && stranger => ApiError::new(
            StatusCode::UNAUTHORIZED,
            "invalid_api_key",
            "the token is missing or wrong; send the content of openai.token_file (without one, of openai-token below \
             paths.state_dir) as the API key",
        ),
        error => status::problem(error).into(),
    }
}

fn with_id(mut response: Response, id: Ulid) -> Response {
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A body that counts as work in progress until it is gone, and says whether it came to its end.
struct Audited {
    body: Body,
    status: StatusCode,
    admission: Admission,
}

impl http_body::Body for Audited {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let over = match &frame {
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            Poll::Ready(None) => true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => false,
        };
        if over {
            let outcome = self.status.as_u16().to_string();
            self.admission.ended(outcome);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::METHODS;

    #[test]
    fn every_path_has_a_row_in_the_table_and_asking_needs_a_user() {
        for (path, least) in [
            ("/health", Role::Guest),
            ("/v2/nothing", Role::Guest),
            ("/v1/models", Role::User),
            ("/v1/models/", Role::User),
            ("/v1/models/local", Role::User),
            ("/v1/chat/completions", Role::User),
            ("/v1/completions", Role::User),
            ("/v1/embeddings", Role::User),
        ] {
            let row = METHODS.iter().find(|method| method.path == counterpart(path));
            assert_eq!(row.map(|method| method.least), Some(least), "{path}");
        }
    }

    #[test]
    fn the_token_is_taken_as_clients_send_it() {
        let request =
            |value: &str| Request::builder().header(AUTHORIZATION, value).body(Body::empty()).unwrap();
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("BEARER abc", Some("abc")),
            ("Bearer", None),
            ("Basic YTpi", None),
            ("abc", None),
        ] {
            let request = request(header);
            assert_eq!(bearer(&request), token.map(str::as_bytes), "{header}");
        }
        assert_eq!(bearer(&Request::new(Body::empty())), None);
    }
}
