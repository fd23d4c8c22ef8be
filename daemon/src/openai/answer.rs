//! An answer on its way to a client: asked for, watched until something is certain (so that a refusal still has a status
//! of its own), then given whole or as a stream. Dropping it, which is what a client that goes away does, cancels it.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use std::convert::Infallible;
use synesis_proto::{Problem, reason};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::error::ApiError;
use super::reply::{Reply, sse};
use crate::ask::{AskError, AskEvent, Delta, Done, Driven};
use crate::ipc::status;

/// Whatever comes next.
enum Next {
    Piece(Delta),
    End(Box<Done>),
}

/// A running ask.
#[derive(Debug)]
pub(super) struct Answer {
    events: Driven<Result<AskEvent, AskError>>,
    stopping: CancellationToken,
}

impl Answer {
    /// What comes of `events`, unless `stopping` comes first.
    pub(super) fn new(events: Driven<Result<AskEvent, AskError>>, stopping: CancellationToken) -> Self {
        Self { events, stopping }
    }

    /// In one piece.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn whole(mut self, reply: impl Reply) -> Result<Response, ApiError> {
        let (mut text, mut logprobs) = (String::new(), Vec::new());
        loop {
            match self.next().await? {
                Next::Piece(delta) => {
                    text.push_str(&delta.text);
                    logprobs.extend(delta.logprobs);
                }
                Next::End(done) => {
                    return Ok(response("application/json", Body::from(reply.whole(text, logprobs, *done))));
                }
            }
        }
    }

    /// As server-sent events, from the moment that there is one.
    ///
    /// # Errors
    /// There is none, and will be none. What goes wrong later is an event.
    pub(super) async fn stream(mut self, mut reply: impl Reply) -> Result<Response, ApiError> {
        let first = self.next().await?;
        let begin = reply.begin();
        let rest = stream::unfold(Some((self, reply, Some(first))), |running| async move {
            let (mut answer, mut reply, first) = running?;
            let next = match first {
                Some(first) => Ok(first),
                None => answer.next().await,
            };
            Some(match next {
                Ok(Next::Piece(delta)) => (reply.piece(delta), Some((answer, reply, None))),
                Ok(Next::End(done)) => (reply.end(*done), None),
                Err(error) => (sse::error(&error.json()), None),
            })
        });
        let events = stream::iter([begin]).chain(rest).filter(|bytes| std::future::ready(!bytes.is_empty()));
        Ok(response("text/event-stream", Body::from_stream(events.map(Ok::<Bytes, Infallible>))))
    }

    async fn next(&mut self) -> Result<Next, ApiError> {
        loop {
            let event = tokio::select! {
                biased;
                event = self.events.next() => event,
                () = self.stopping.cancelled() => return Err(stopped()),
            };
            match event {
                Some(Ok(AskEvent::Delta(delta))) => return Ok(Next::Piece(delta)),
                Some(Ok(AskEvent::Done(done))) => return Ok(Next::End(done)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(status::problem(error).into()),
                None => return Err(cut_short()),
            }
        }
    }
}

fn response(kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

pub(super) fn stopped() -> ApiError {
    Problem::new(Code::Unavailable, reason::STOPPING, "synesisd is stopping", "try again in a moment").into()
}

/// The asker's contract: an answer ends with its end or with an error.
fn cut_short() -> ApiError {
    tracing::error!("an answer ended without an end: this is a defect");
    Problem::new(
        Code::Internal,
        reason::INTERNAL,
        "the answer was cut short by a defect of synesisd",
        "ask again; its log has the details under the request id",
    )
    .into()
}
