//! One answer as a stream of events. It ends after `Finished`, or with exactly one error.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use synesis_proto::runtime::v1::{GenerateEvent, generate_event::Event};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Streaming;

use super::ModelError;
use super::handle::Link;

/// A running answer. Dropping it cancels the work within one token.
pub struct Answer {
    events: Streaming<GenerateEvent>,
    gone: CancellationToken,
    until_gone: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl Answer {
    pub(super) fn new(events: Streaming<GenerateEvent>, gone: CancellationToken) -> Self {
        Self { events, until_gone: Box::pin(gone.clone().cancelled_owned()), gone, ended: false }
    }

    /// The next event, `None` when there is nothing more to come: what the process sent before it died first.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ModelError>> {
        loop {
            match Pin::new(&mut self.events).poll_next(cx) {
                Poll::Ready(Some(Ok(GenerateEvent { event: Some(event) }))) => return Poll::Ready(Ok(event)),
                // An event of a newer protocol.
                Poll::Ready(Some(Ok(GenerateEvent { event: None }))) => {}
                Poll::Ready(Some(Err(status))) => {
                    return Poll::Ready(Err(Link::refusal(&self.gone, &status)));
                }
                Poll::Ready(None) => {
                    return Poll::Ready(Err(ModelError::Protocol("an answer without an end".to_owned())));
                }
                Poll::Pending => {
                    ready!(self.until_gone.as_mut().poll(cx));
                    return Poll::Ready(Err(ModelError::Crashed));
                }
            }
        }
    }
}

impl Stream for Answer {
    type Item = Result<Event, ModelError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = ready!(self.poll_event(cx));
        self.ended = matches!(event, Ok(Event::Finished(_)) | Err(_));
        Poll::Ready(Some(event))
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("ended", &self.ended).finish_non_exhaustive()
    }
}
