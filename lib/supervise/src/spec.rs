//! What a subsystem is, and what the supervisor promises to do for and about it.

use std::time::Duration;

use async_trait::async_trait;

use crate::{Backoff, BoxError, Context};

/// One long-lived part of a process.
#[async_trait]
pub trait Subsystem: Send + 'static {
    /// Runs until [`Context::stopping`] is cancelled, then returns `Ok`.
    ///
    /// Called again after an error, an early `Ok` or a panic; `self` keeps what it held, so state that a panic may have
    /// left half changed must be made anew at the top. Call [`Context::ready`] once the subsystem can do its work.
    ///
    /// # Errors
    /// Whatever keeps it from doing its work; the text becomes the health reason.
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError>;
}

/// What happens when restarting does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Importance {
    /// The process ends: without this part it would only pretend to work.
    Essential,
    /// The process goes on and says what is missing.
    Degradable,
}

/// Name and supervision rules of one subsystem.
#[derive(Debug, Clone)]
pub struct Spec {
    pub(crate) name: &'static str,
    pub(crate) importance: Importance,
    pub(crate) start_timeout: Duration,
    pub(crate) grace: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) stable_after: Duration,
    pub(crate) max_tries: u32,
    pub(crate) tick_within: Duration,
}

impl Spec {
    /// A subsystem whose giving up ends the process.
    #[must_use]
    pub fn essential(name: &'static str) -> Self {
        Self::new(name, Importance::Essential)
    }

    /// A subsystem the process can do without: it never ends the process and is retried for ever.
    #[must_use]
    pub fn degradable(name: &'static str) -> Self {
        Self::new(name, Importance::Degradable)
    }

    fn new(name: &'static str, importance: Importance) -> Self {
        Self {
            name,
            importance,
            start_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(3),
            backoff: Backoff::default(),
            stable_after: Duration::from_secs(60),
            max_tries: 5,
            tick_within: Duration::from_secs(10),
        }
    }

    /// How long a run may take to become ready (default 30 s). When it is over, the start fails (essential) or goes on
    /// without it (degradable); on a later restart an essential run counts as failed.
    #[must_use]
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.start_timeout = limit;
        self
    }

    /// How long it may take to stop before it is aborted (default 3 s). The sum over all subsystems must stay below the
    /// unit's `TimeoutStopSec`.
    #[must_use]
    pub fn grace(mut self, limit: Duration) -> Self {
        self.grace = limit;
        self
    }

    /// The wait between tries (default one second doubling to one minute).
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long it must have been ready for its failures to be forgotten (default 60 s).
    #[must_use]
    pub fn stable_after(mut self, period: Duration) -> Self {
        self.stable_after = period;
        self
    }

    /// Failures in a row, without a stable period between them, until it has failed (default 5; 0 counts as 1).
    #[must_use]
    pub fn max_tries(mut self, tries: u32) -> Self {
        self.max_tries = tries.max(1);
        self
    }

    /// The longest pause between two [`Context::tick`]s before the watchdog is no longer fed (default 10 s). It matters
    /// for an essential subsystem, and only from its first tick on.
    #[must_use]
    pub fn tick_within(mut self, limit: Duration) -> Self {
        self.tick_within = limit;
        self
    }
}
