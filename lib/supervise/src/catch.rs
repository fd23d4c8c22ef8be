//! A future whose panics, while running or while being dropped, are a value.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{self, Poll},
};

/// Resolves to the output, or to the panic's message.
pub(crate) struct Catch<F> {
    /// `None` once it has ended: a future that panicked must not be polled again.
    inner: Option<Pin<Box<F>>>,
}

impl<F: Future> Catch<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { inner: Some(Box::pin(future)) }
    }

    /// Drops the future now.
    fn discard(&mut self) -> Result<(), String> {
        let inner = self.inner.take();
        // Asserted unwind-safe here and below: the future is never touched again after a panic, and what it shared with
        // the outside is the subsystem's own state, which its contract says to make anew.
        catch_unwind(AssertUnwindSafe(|| drop(inner))).map_err(|panic| message(&*panic))
    }
}

impl<F: Future> Future for Catch<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Some(inner) = self.inner.as_mut() else { return Poll::Pending };
        let output = match catch_unwind(AssertUnwindSafe(|| inner.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panic) => Err(message(&*panic)),
        };
        let dropped = self.discard();
        Poll::Ready(output.and_then(|output| dropped.map(|()| output)))
    }
}

impl<F> Drop for Catch<F> {
    fn drop(&mut self) {
        let inner = self.inner.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(inner))) {
            tracing::warn!(panic = message(&*panic), "a subsystem panicked while being aborted");
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "without a message".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsOnDrop;

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_value_with_its_message() {
        assert_eq!(Catch::new(async { 7 }).await, Ok(7));
        assert_eq!(Catch::new(async { panic!("plain") }).await, Err::<(), _>("plain".to_owned()));
        let number = 7;
        assert_eq!(
            Catch::new(async { panic!("formatted {number}") }).await,
            Err::<(), _>("formatted 7".to_owned())
        );
        let odd = Catch::new(async { std::panic::panic_any(7_u8) }).await;
        assert_eq!(odd, Err::<(), _>("without a message".to_owned()));
    }

    #[tokio::test]
    async fn a_panic_while_being_dropped_is_caught_too() {
        let ends = Catch::new(async {
            let _held = PanicsOnDrop;
        });
        assert_eq!(ends.await, Err("in drop".to_owned()));
        let held = PanicsOnDrop;
        drop(Catch::new(async move {
            std::future::pending::<()>().await;
            drop(held);
        }));
    }
}
