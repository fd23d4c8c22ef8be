//! A stream whose items a task of its own makes: the work goes on, and its deadlines fire, whether or not anybody
//! reads; dropping the stream cancels it.

use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Instrument as _;

/// Pieces kept for a slow reader before the work has to wait.
const AHEAD: usize = 32;

/// Items of `T`, made by a task that lives as long as this.
pub struct Driven<T> {
    /// At most one.
    work: JoinSet<Option<T>>,
    items: mpsc::Receiver<T>,
}

impl<T: Send + 'static> Driven<T> {
    /// The stream of what the future made by `work` sends into its channel, and then of what it returns: a last item
    /// that needs no room in the channel, so that a reader who was slow hears how it ended.
    ///
    /// Takes a running tokio.
    pub fn new<F>(work: impl FnOnce(mpsc::Sender<T>) -> F) -> Self
    where
        F: Future<Output = Option<T>> + Send + 'static,
    {
        let (sender, items) = mpsc::channel(AHEAD);
        let mut owned = JoinSet::new();
        owned.spawn(work(sender).in_current_span());
        Self { work: owned, items }
    }
}

impl<T: Send + 'static> Stream for Driven<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(item) = ready!(self.items.poll_recv(cx)) {
            return Poll::Ready(Some(item));
        }
        match ready!(self.work.poll_join_next(cx)) {
            Some(Ok(last)) => Poll::Ready(last),
            // An answer that a defect cut off must not look like a whole one.
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => Poll::Ready(None),
            },
            None => Poll::Ready(None),
        }
    }
}

impl<T> std::fmt::Debug for Driven<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driven").field("working", &!self.work.is_empty()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::StreamExt;
    use tokio::sync::oneshot;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn everything_that_is_sent_arrives_then_what_is_returned_and_then_it_ends() {
        let stream = Driven::new(|items| async move {
            for n in 0..1000 {
                items.send(n).await.unwrap();
                tokio::task::yield_now().await;
            }
            Some(1000)
        });
        let got: Vec<u32> = stream.collect().await;
        assert_eq!(got, (0..=1000).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn dropping_the_stream_drops_the_work() {
        let (held, mut alive) = oneshot::channel::<()>();
        let mut stream = Driven::new(|items| async move {
            let _held = held;
            items.send(1).await.unwrap();
            std::future::pending().await
        });
        assert_eq!(stream.next().await, Some(1));
        assert!(alive.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
        drop(stream);
        assert!(alive.await.is_err(), "the work let go of what it held");
    }

    #[tokio::test(start_paused = true)]
    async fn the_work_and_its_deadlines_go_on_while_nobody_reads() {
        let (done, ended) = oneshot::channel::<()>();
        let stream = Driven::new(|items| async move {
            sleep(Duration::from_secs(60)).await;
            drop(done);
            drop(items);
            Some("too late")
        });
        assert!(ended.await.is_err(), "nobody has read so far");
        assert_eq!(stream.collect::<Vec<_>>().await, ["too late"]);
    }

    #[tokio::test]
    #[should_panic(expected = "a defect")]
    async fn an_answer_that_a_defect_cut_off_does_not_look_whole() {
        let mut stream = Driven::<u32>::new(|_| async { panic!("a defect") });
        stream.next().await;
    }
}
