//! Streams that feed a call from a file: gRPC sends plain messages, so what goes wrong while reading has to reach
//! the command by another way than the stream itself.

use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use tokio::sync::oneshot;

use crate::failure::Failure;

/// What the call sees when the file cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFailure {
    /// The stream ends: what was sent so far is answered.
    End,
    /// The stream never ends: half a file must not look like a whole one. The command drops the call.
    Stall,
}

/// Splits a stream that can fail into the messages and the place where its failure turns up.
pub(crate) fn split<T: Send + 'static>(
    source: impl Stream<Item = Result<T, Failure>> + Send + 'static,
    on_failure: OnFailure,
) -> (BoxStream<'static, T>, oneshot::Receiver<Failure>) {
    let (report, failed) = oneshot::channel();
    let state = (source.boxed(), Some(report));
    let messages = stream::unfold(state, move |(mut source, mut report)| async move {
        match source.next().await? {
            Ok(message) => Some((message, (source, report))),
            Err(failure) => {
                // When nobody listens any more, the command has ended for another reason.
                let _ = report.take().map(|report| report.send(failure));
                match on_failure {
                    OnFailure::End => None,
                    OnFailure::Stall => std::future::pending().await,
                }
            }
        }
    });
    (messages.boxed(), failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn broken() -> impl Stream<Item = Result<u8, Failure>> {
        stream::iter([Ok(1), Ok(2), Err(Failure::EmptyPrompt), Ok(3)])
    }

    #[tokio::test]
    async fn a_stream_that_ends_on_failure_keeps_what_came_before() {
        let (messages, failed) = split(broken(), OnFailure::End);
        assert_eq!(messages.collect::<Vec<_>>().await, [1, 2]);
        assert!(matches!(failed.await, Ok(Failure::EmptyPrompt)));
    }

    #[tokio::test]
    async fn a_stalled_stream_never_looks_complete() {
        let (mut messages, failed) = split(broken(), OnFailure::Stall);
        assert_eq!((messages.next().await, messages.next().await), (Some(1), Some(2)));
        assert!(messages.next().now_or_never().is_none());
        assert!(matches!(failed.await, Ok(Failure::EmptyPrompt)));
    }

    #[tokio::test]
    async fn a_stream_without_failure_drops_its_report() {
        let (messages, failed) = split(stream::iter([Ok(1)]), OnFailure::Stall);
        assert_eq!(messages.collect::<Vec<_>>().await, [1]);
        assert!(failed.await.is_err());
    }
}
