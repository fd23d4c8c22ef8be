//! A response body that counts as work in progress until its last frame is out, and then writes the audit line.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::Span;

use super::Audit;
use super::in_progress::Place;

/// One admitted call, from its admission to its end, whichever way it ends.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) method: &'static str,
    pub(super) audit: Audit,
    pub(super) begun: Instant,
    pub(super) span: Span,
    pub(super) code: Option<Code>,
    pub(super) _place: Place,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let _in_span = self.span.enter();
        let ms = self.begun.elapsed().as_millis() as u64;
        // No code: the client went away first.
        let code = self.code.map_or_else(|| "cancelled by the client".to_owned(), |code| format!("{code:?}"));
        match self.audit {
            Audit::Changes => {
                tracing::info!(target: "synesisd::audit", method = self.method, code, ms, "call")
            }
            Audit::Reads => {
                tracing::debug!(target: "synesisd::audit", method = self.method, code, ms, "call")
            }
        }
    }
}

/// The body of an admitted call.
#[derive(Debug)]
pub(super) struct Guarded {
    body: Body,
    admission: Admission,
}

impl Guarded {
    pub(super) fn new(body: Body, admission: Admission) -> Self {
        Self { body, admission }
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(status) = frame.trailers_ref().and_then(Status::from_header_map)
        {
            self.admission.code = Some(status.code());
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
