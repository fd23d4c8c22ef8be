//! What other threads may know about the engine while it works, and the tickets that bound how many requests it
//! has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What an answer takes before one was measured.
const FIRST_GUESS: Duration = Duration::from_secs(2);
/// A refused request is not told to come back sooner.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
/// The newest answer's share in the mean, as a divisor.
const NEWEST_SHARE: u64 = 8;

/// Written by the engine's thread, read by everybody.
#[derive(Debug)]
pub(super) struct Vitals {
    epoch: Instant,
    /// Requests that have a sequence, or wait for one.
    tickets: AtomicUsize,
    active: AtomicUsize,
    parallel: AtomicUsize,
    /// Requests that may wait.
    queue: AtomicUsize,
    tokens: AtomicU64,
    /// What the context for vectors takes, as estimated.
    vector_bytes: AtomicU64,
    has_work: AtomicBool,
    /// When the last step was finished, in milliseconds since the epoch.
    last_step: AtomicU64,
    /// Mean time from start to end of a request, in microseconds.
    service: AtomicU64,
}

/// How the engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) model_loaded: bool,
    pub(crate) busy: bool,
    pub(crate) queued: usize,
    pub(crate) active: usize,
    pub(crate) parallel: usize,
    pub(crate) tokens_generated: u64,
    /// What the context for vectors takes; 0: there is none.
    pub(crate) vector_bytes: u64,
    /// Since the last finished step, while there is work; zero: there is none.
    pub(crate) stalled: Duration,
    /// Until a request that came now would start.
    pub(crate) expected_wait: Duration,
}

impl Vitals {
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            tickets: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            parallel: AtomicUsize::new(1),
            queue: AtomicUsize::new(0),
            tokens: AtomicU64::new(0),
            vector_bytes: AtomicU64::new(0),
            has_work: AtomicBool::new(false),
            last_step: AtomicU64::new(0),
            service: AtomicU64::new(u64::try_from(FIRST_GUESS.as_micros()).unwrap_or(u64::MAX)),
        }
    }

    /// What the loaded model was given.
    pub(super) fn set_room(&self, parallel: usize, queue: usize) {
        self.parallel.store(parallel.max(1), Ordering::Relaxed);
        self.queue.store(queue, Ordering::Relaxed);
    }

    /// A place for a request, or how long to wait before asking again.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Arc<Ticket>, Duration> {
        let room = self.parallel.load(Ordering::Relaxed) + self.queue.load(Ordering::Relaxed);
        let taken = self
            .tickets
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < room).then_some(taken + 1));
        match taken {
            Ok(_) => Ok(Arc::new(Ticket { vitals: Arc::clone(self), returned: AtomicBool::new(false) })),
            Err(_) => Err(self.expected_wait().max(SHORTEST_WAIT)),
        }
    }

    pub(super) fn set_active(&self, requests: usize) {
        self.active.store(requests, Ordering::Relaxed);
    }

    pub(super) fn count_token(&self) {
        self.tokens.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_vector_bytes(&self, bytes: u64) {
        self.vector_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Called after every step, and when work begins.
    pub(super) fn stepped(&self, has_work: bool) {
        let now = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_step.store(now, Ordering::Relaxed);
        self.has_work.store(has_work, Ordering::Relaxed);
    }

    /// A request was served from its start to its end.
    pub(super) fn served(&self, time: Duration) {
        let newest = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mean = self.service.load(Ordering::Relaxed);
        let mean = mean - mean / NEWEST_SHARE + newest / NEWEST_SHARE;
        self.service.store(mean, Ordering::Relaxed);
    }

    pub(super) fn load(&self, model_loaded: bool) -> Load {
        let active = self.active.load(Ordering::Relaxed);
        let has_work = self.has_work.load(Ordering::Relaxed);
        let since = Duration::from_millis(self.last_step.load(Ordering::Relaxed));
        Load {
            model_loaded,
            busy: has_work,
            queued: self.tickets.load(Ordering::Relaxed).saturating_sub(active),
            active,
            parallel: if model_loaded { self.parallel.load(Ordering::Relaxed) } else { 0 },
            tokens_generated: self.tokens.load(Ordering::Relaxed),
            vector_bytes: self.vector_bytes.load(Ordering::Relaxed),
            stalled: if has_work { self.epoch.elapsed().saturating_sub(since) } else { Duration::ZERO },
            expected_wait: self.expected_wait(),
        }
    }

    /// Sequences become free one after the other, each after a mean request's time divided by their number.
    fn expected_wait(&self) -> Duration {
        let parallel = self.parallel.load(Ordering::Relaxed).max(1);
        let tickets = self.tickets.load(Ordering::Relaxed);
        if tickets < parallel {
            return Duration::ZERO;
        }
        let ahead = tickets - parallel + 1;
        let service = Duration::from_micros(self.service.load(Ordering::Relaxed));
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        let parallel = u32::try_from(parallel).unwrap_or(u32::MAX);
        service.saturating_mul(ahead) / parallel
    }
}

/// A request's place. It is given back as soon as one side lets go: the engine, when the request is done, or the
/// one who asked, when nobody listens any more.
#[derive(Debug)]
pub(super) struct Ticket {
    vitals: Arc<Vitals>,
    returned: AtomicBool,
}

impl Ticket {
    pub(super) fn give_back(&self) {
        if !self.returned.swap(true, Ordering::AcqRel) {
            self.vitals.tickets.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vitals(parallel: usize, queue: usize) -> Arc<Vitals> {
        let vitals = Arc::new(Vitals::new());
        vitals.set_room(parallel, queue);
        vitals
    }

    #[test]
    fn no_more_requests_get_in_than_have_room() {
        let vitals = vitals(2, 1);
        let tickets: Vec<_> = (0..3).map(|_| vitals.admit().unwrap()).collect();
        assert!(vitals.admit().unwrap_err() >= SHORTEST_WAIT);
        tickets[1].give_back();
        tickets[1].give_back();
        let _fourth = vitals.admit().unwrap();
        assert!(vitals.admit().is_err(), "a place is given back once");
        drop(tickets);
        assert_eq!(vitals.load(true).queued, 1);
    }

    #[test]
    fn the_wait_follows_from_those_ahead_and_what_answers_took() {
        let vitals = vitals(2, 8);
        for _ in 0..200 {
            vitals.served(Duration::from_secs(4));
        }
        let _one = vitals.admit().unwrap();
        assert_eq!(vitals.load(true).expected_wait, Duration::ZERO, "a sequence is free");
        let _two = vitals.admit().unwrap();
        let wait = vitals.load(true).expected_wait.as_secs_f64();
        assert!((wait - 2.0).abs() < 0.1, "{wait}: the first of two sequences becomes free");
        let _three = vitals.admit().unwrap();
        let wait = vitals.load(true).expected_wait.as_secs_f64();
        assert!((wait - 4.0).abs() < 0.1, "{wait}: one is ahead");
    }

    #[tokio::test(start_paused = true)]
    async fn only_an_engine_with_work_stalls() {
        let vitals = vitals(1, 1);
        vitals.stepped(true);
        tokio::time::advance(Duration::from_millis(700)).await;
        assert_eq!(vitals.load(true).stalled, Duration::from_millis(700));
        vitals.stepped(false);
        tokio::time::advance(Duration::from_millis(700)).await;
        assert_eq!(vitals.load(true).stalled, Duration::ZERO);
    }
}
