//! Keeps a bug inside QUIC to the connection it is in. quinn's tasks work under a lock; when one of them panics, every
//! later use of that connection panics too, even dropping a stream of it, and a panic while another one unwinds ends
//! the process. Here each use ends as an error, and the tunnel reconnects (docs/adr/0016).

use std::future::poll_fn;
use std::io;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::ConnectionLost;

const BROKEN: &str = "QUIC itself failed";

/// What `use_it` returns, unless it panics. Nothing of ours is half done then: quinn refuses to go on with the connection.
pub(super) fn contained<R>(use_it: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(use_it)).ok()
}

/// The same for a future.
pub(super) async fn contained_async<T>(
    future: impl Future<Output = Result<T, quinn::ConnectionError>>,
) -> Result<T, ConnectionLost> {
    let mut future = pin!(future);
    let broken = || Err(ConnectionLost::Failed(BROKEN.to_owned()));
    let step = poll_fn(|cx| match contained(|| future.as_mut().poll(cx)) {
        Some(Poll::Pending) => Poll::Pending,
        Some(Poll::Ready(done)) => Poll::Ready(done.map_err(ConnectionLost::from)),
        None => Poll::Ready(broken()),
    });
    step.await
}

/// The same for a step of reading or writing.
pub(super) fn contained_io<T>(step: impl FnOnce() -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    contained(step).unwrap_or_else(|| Poll::Ready(Err(io::Error::other(BROKEN))))
}

/// Something of quinn's that may be dropped whatever happened to its connection.
#[derive(Debug)]
pub(crate) struct Contained<T: Probe>(Option<T>);

impl<T: Probe> From<T> for Contained<T> {
    fn from(inner: T) -> Self {
        Self(Some(inner))
    }
}

impl<T: Probe> Deref for Contained<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(inner) => inner,
            None => unreachable!("it is taken when it is dropped, and not before"),
        }
    }
}

impl<T: Probe> DerefMut for Contained<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(inner) => inner,
            None => unreachable!("it is taken when it is dropped, and not before"),
        }
    }
}

impl<T: Probe> Drop for Contained<T> {
    fn drop(&mut self) {
        let Some(mut inner) = self.0.take() else { return };
        // Dropping it would panic, and so would dropping what is in it: that ends the process, and can't be caught.
        // What a broken connection has left stays in memory, once per bug.
        if contained(|| inner.touch()).is_none() {
            std::mem::forget(inner);
        }
    }
}

/// Something that takes the lock of its connection.
pub(crate) trait Probe {
    /// Takes it and gives it back; panics when the connection is broken.
    fn touch(&mut self);
}

impl Probe for quinn::Connection {
    fn touch(&mut self) {
        let _ = self.stats();
    }
}

impl Probe for quinn::SendStream {
    fn touch(&mut self) {
        // Also an ended stream has taken the lock to say so.
        let _ = self.priority();
    }
}

impl Probe for quinn::RecvStream {
    fn touch(&mut self) {
        // Its answer does not matter any more, and nobody waits for it.
        let _ = pin!(self.received_reset()).poll(&mut Context::from_waker(Waker::noop()));
    }
}
