//! The memory of all answers together: what they take, what they may, and who gives way when it is short.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How much answers may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// One of them, in bytes.
    pub(crate) answer: usize,
    /// All together, in bytes.
    pub(crate) total: usize,
}

/// What is taken.
pub(crate) struct Memory {
    pub(crate) limits: Limits,
    taken: AtomicUsize,
    freed: Notify,
    /// Lets finished answers go.
    evict: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Memory {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, taken: AtomicUsize::new(0), freed: Notify::new(), evict: OnceLock::new() }
    }

    /// Who can make room.
    pub(super) fn evicts_with(&self, evict: impl Fn() + Send + Sync + 'static) {
        // There is one table of answers, and it says so once.
        let _ = self.evict.set(Box::new(evict));
    }

    /// What all answers take now.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub(super) fn is_full(&self) -> bool {
        self.taken() >= self.limits.total
    }

    /// Lets finished answers go when there is no room. Not to be called with an answer locked.
    pub(super) fn make_room(&self) {
        if self.is_full()
            && let Some(evict) = self.evict.get()
        {
            evict();
        }
    }

    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }
}

/// What one answer takes; given back when it is dropped.
pub(super) struct Share {
    memory: Arc<Memory>,
    taken: usize,
}

impl Share {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self { memory, taken: 0 }
    }

    pub(super) fn takes(&mut self, bytes: usize) {
        if bytes > self.taken {
            self.memory.taken.fetch_add(bytes - self.taken, Ordering::Relaxed);
        } else if bytes < self.taken {
            self.memory.taken.fetch_sub(self.taken - bytes, Ordering::Relaxed);
            self.memory.freed.notify_waiters();
        }
        self.taken = bytes;
    }

    pub(super) fn gives_back(&mut self) {
        self.takes(0);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gives_back();
    }
}
