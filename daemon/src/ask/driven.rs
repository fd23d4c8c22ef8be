//! A stream that does its own work: polling it drives the future that feeds it, so dropping it cancels the work at
//! once, and there is no task to own.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use tokio::sync::mpsc;

/// Pieces kept for a slow reader before the work has to wait.
const AHEAD: usize = 32;

/// Items of `T`, made by a future while somebody reads.
pub struct Driven<T> {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    items: mpsc::Receiver<T>,
}

impl<T> Driven<T> {
    /// The stream of what the future made by `work` sends into its channel.
    pub fn new<F>(work: impl FnOnce(mpsc::Sender<T>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, items) = mpsc::channel(AHEAD);
        Self { work: Some(Box::pin(work(sender))), items }
    }
}

impl<T> Stream for Driven<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(work) = &mut self.work
            && work.as_mut().poll(cx).is_ready()
        {
            // Lets go of the sender, so that the channel ends after its last item.
            self.work = None;
        }
        self.items.poll_recv(cx)
    }
}

impl<T> std::fmt::Debug for Driven<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driven").field("working", &self.work.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn everything_that_is_sent_arrives_and_then_it_ends() {
        let stream = Driven::new(|items| async move {
            for n in 0..1000 {
                items.send(n).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let got: Vec<u32> = stream.collect().await;
        assert_eq!(got, (0..1000).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn dropping_the_stream_drops_the_work() {
        let alive = Arc::new(());
        let held = Arc::clone(&alive);
        let mut stream = Driven::new(|items| async move {
            let _held = held;
            items.send(1).await.unwrap();
            std::future::pending::<()>().await;
        });
        assert_eq!(stream.next().await, Some(1));
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(stream);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
