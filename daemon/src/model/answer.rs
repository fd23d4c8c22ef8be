//! One answer as a stream of events. It ends after `Finished`, or with exactly one error.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use synesis_proto::runtime::v1::{GenerateEvent, generate_event::Event};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Streaming;

use super::ModelError;
use super::link::Link;

/// A running answer. Dropping it cancels the work within one token.
pub struct Answer {
    events: Streaming<GenerateEvent>,
    until_gone: Pin<Box<WaitForCancellationFutureOwned>>,
    link: Link,
    /// Given back with the last event: a model that is replaced waits for it.
    call: Option<TaskTrackerToken>,
}

impl Answer {
    pub(super) fn new(events: Streaming<GenerateEvent>, link: Link, call: TaskTrackerToken) -> Self {
        Self { events, until_gone: Box::pin(link.gone.clone().cancelled_owned()), link, call: Some(call) }
    }

    /// The next event, `None` when there is nothing more to come: what the process sent before it died first.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, ModelError>> {
        loop {
            match Pin::new(&mut self.events).poll_next(cx) {
                Poll::Ready(Some(Ok(GenerateEvent { event: Some(event) }))) => return Poll::Ready(Ok(event)),
                // An event of a newer protocol.
                Poll::Ready(Some(Ok(GenerateEvent { event: None }))) => {}
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Err(self.link.refusal(&status))),
                Poll::Ready(None) => {
                    return Poll::Ready(Err(ModelError::Protocol("an answer without an end".to_owned())));
                }
                Poll::Pending => {
                    ready!(self.until_gone.as_mut().poll(cx));
                    return Poll::Ready(Err(self.link.lost()));
                }
            }
        }
    }
}

impl Stream for Answer {
    type Item = Result<Event, ModelError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.call.is_none() {
            return Poll::Ready(None);
        }
        let event = ready!(self.poll_event(cx));
        if matches!(event, Ok(Event::Finished(_)) | Err(_)) {
            self.call = None;
        }
        Poll::Ready(Some(event))
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("ended", &self.call.is_none()).finish_non_exhaustive()
    }
}
