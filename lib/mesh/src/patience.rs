//! How long a write may wait for a reader that does not read.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// A limit on one wait, and the wait. Without a limit, nothing is ever over.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    limit: Option<Duration>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(crate) fn of(limit: Duration) -> Self {
        Self { limit: Some(limit), waiting: None }
    }

    /// Whether what is `pending` has been so for too long. Any progress starts anew; so the timer exists only while
    /// something waits.
    pub(crate) fn is_over(&mut self, pending: bool, cx: &mut Context<'_>) -> bool {
        let Some(limit) = self.limit.filter(|_| pending) else {
            self.waiting = None;
            return false;
        };
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        matches!(waiting.as_mut().poll(cx), Poll::Ready(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::advance;

    use super::*;

    async fn is_over(patience: &mut Patience, pending: bool) -> bool {
        poll_fn(|cx| Poll::Ready(patience.is_over(pending, cx))).await
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_uninterrupted_wait_comes_to_its_end() {
        let mut patience = Patience::of(Duration::from_secs(10));
        assert!(!is_over(&mut patience, true).await);
        advance(Duration::from_secs(9)).await;
        assert!(!is_over(&mut patience, true).await);
        assert!(!is_over(&mut patience, false).await, "there was progress");
        advance(Duration::from_secs(2)).await;
        assert!(!is_over(&mut patience, true).await, "and so it starts anew");
        advance(Duration::from_secs(10)).await;
        assert!(is_over(&mut patience, true).await);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_a_wait_has_no_end() {
        let mut patience = Patience::default();
        assert!(!is_over(&mut patience, true).await);
        advance(Duration::from_secs(1_000_000)).await;
        assert!(!is_over(&mut patience, true).await);
    }
}
