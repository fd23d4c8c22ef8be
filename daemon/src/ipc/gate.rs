//! The layer every call passes before a handler sees it: request id, authorization, limits, audit.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::Instrument as _;
use ulid::Ulid;

use super::Caller;
use super::admission::AdmissionControl;
use super::call::Call;
use super::guarded::Guarded;
use super::status::refuse;

/// In every response.
pub(crate) const REQUEST_ID: &str = "x-request-id";

/// Makes a [`Gate`] around the services.
#[derive(Debug, Clone)]
pub(super) struct GateLayer {
    control: AdmissionControl,
}

impl GateLayer {
    pub(super) fn new(control: AdmissionControl) -> Self {
        Self { control }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, control: self.control.clone() }
    }
}

/// The services behind their gate.
#[derive(Debug, Clone)]
pub(super) struct Gate<S> {
    inner: S,
    control: AdmissionControl,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let id = Ulid::generate();
        let caller = request.extensions().get::<Caller>().copied();
        let uid = caller.map(|caller| caller.uid);
        let span = tracing::info_span!("call", id = %id, uid);
        let (caller, mut admission) = match self.control.admit(request.uri().path(), caller, span.clone()) {
            Ok(admitted) => admitted,
            Err(error) => {
                let _in_span = span.enter();
                let pid = caller.and_then(|caller| caller.pid);
                tracing::warn!(target: "synesisd::audit", path = request.uri().path(), pid, %error, "call refused");
                let response = with_id(refuse(error).into_http(), id);
                return Box::pin(async move { Ok(response) });
            }
        };
        request.extensions_mut().insert(Call { id, caller });
        let answer = self.inner.call(request);
        let work = async move {
            let response = answer.await?;
            // A call that fails before its first message has its status in the headers.
            if let Some(status) = Status::from_header_map(response.headers()) {
                admission.ended(format!("{:?}", status.code()));
            }
            Ok(with_id(response.map(|body| Body::new(Guarded::new(body, admission))), id))
        };
        Box::pin(work.instrument(span))
    }
}

fn with_id(mut response: Response<Body>, id: Ulid) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use synesis_proto::{Problem, reason};
    use tonic::Code;
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::ipc::Role;
    use crate::ipc::in_progress::OF_ONE;

    const STATUS: &str = "/synesis.control.v1.Node/Status";
    const SWAP: &str = "/synesis.control.v1.Adapters/Swap";

    fn gate(requests_per_minute: u32) -> GateLayer {
        GateLayer::new(AdmissionControl::new(requests_per_minute))
    }

    fn caller(uid: u32, role: Role) -> Caller {
        Caller { uid, gid: uid, pid: Some(1), role }
    }

    fn request(path: &str, caller: Option<Caller>) -> Request<Body> {
        let mut request = Request::builder().uri(path).body(Body::empty()).unwrap();
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        request
    }

    /// An answer that goes on and on.
    struct Endless;

    impl http_body::Body for Endless {
        type Data = bytes::Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Status>>> {
            Poll::Pending
        }
    }

    /// A gate in front of a service that answers everything without an end.
    async fn pass(layer: &GateLayer, request: Request<Body>) -> Response<Body> {
        let service = service_fn(|request: Request<Body>| async move {
            assert!(request.extensions().get::<Call>().is_some(), "a handler knows its call");
            Ok::<_, Infallible>(Response::new(Body::new(Endless)))
        });
        layer.layer(service).oneshot(request).await.unwrap()
    }

    fn problem(response: &Response<Body>) -> Option<Problem> {
        Status::from_header_map(response.headers()).map(|status| Problem::from_status(&status))
    }

    #[tokio::test]
    async fn each_role_passes_where_the_table_lets_it_and_nowhere_else() {
        let layer = gate(600);
        for (path, role, passes) in [
            (STATUS, Role::Guest, true),
            ("/synesis.control.v1.Inference/Ask", Role::Guest, false),
            ("/synesis.control.v1.Inference/Ask", Role::User, true),
            (SWAP, Role::User, false),
            (SWAP, Role::Admin, true),
            ("/synesis.control.v1.Node/Reboot", Role::Admin, false),
        ] {
            let response = pass(&layer, request(path, Some(caller(1000, role)))).await;
            assert_eq!(response.headers()[REQUEST_ID].len(), 26);
            match problem(&response) {
                None => assert!(passes, "{role} passed to {path}"),
                Some(problem) => {
                    assert!(!passes, "{role} was kept from {path}: {problem}");
                    assert_eq!(
                        (problem.code, problem.reason.as_str()),
                        (Code::PermissionDenied, reason::FORBIDDEN)
                    );
                }
            }
        }
    }

    #[tokio::test]
    async fn a_call_without_a_caller_is_refused() {
        let response = pass(&gate(600), request(STATUS, None)).await;
        assert_eq!(problem(&response).unwrap().code, Code::Unauthenticated);
    }

    #[tokio::test]
    async fn one_user_s_haste_does_not_slow_another() {
        let layer = gate(1);
        let first = caller(1000, Role::User);
        assert_eq!(problem(&pass(&layer, request(STATUS, Some(first))).await), None);
        let refused = problem(&pass(&layer, request(STATUS, Some(first))).await).unwrap();
        assert_eq!(refused.reason, reason::RATE_LIMITED);
        let second = caller(1001, Role::User);
        assert_eq!(problem(&pass(&layer, request(STATUS, Some(second))).await), None);
    }

    #[tokio::test]
    async fn a_call_counts_as_in_progress_until_its_body_is_gone() {
        let layer = gate(100_000);
        let user = caller(1000, Role::User);
        let mut open = Vec::new();
        for _ in 0..OF_ONE {
            open.push(pass(&layer, request(STATUS, Some(user))).await);
        }
        let refused = problem(&pass(&layer, request(STATUS, Some(user))).await).unwrap();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, reason::BUSY));
        let root = request(STATUS, Some(caller(0, Role::Admin)));
        assert_eq!(problem(&pass(&layer, root).await), None, "others are not kept out");
        open.pop();
        assert_eq!(problem(&pass(&layer, request(STATUS, Some(user))).await), None);
    }
}
