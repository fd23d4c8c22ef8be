//! The proof of life of one subsystem: when it last ticked, and whether that is too long ago.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Pulse {
    within: Duration,
    beat: Mutex<Beat>,
}

#[derive(Debug, Default)]
struct Beat {
    /// The run whose ticks count; `None` between two runs: a subsystem that is backed off is not hung.
    run: Option<u64>,
    /// `None`: this run has not opted in (yet), so nothing is expected of it.
    last: Option<Instant>,
}

impl Pulse {
    pub(crate) fn new(within: Duration) -> Self {
        Self { within, beat: Mutex::new(Beat::default()) }
    }

    pub(crate) fn begin(&self, run: u64) {
        *self.beat() = Beat { run: Some(run), last: None };
    }

    pub(crate) fn end(&self) {
        *self.beat() = Beat::default();
    }

    /// A tick of another run than the present one is a task's that was left behind; it proves nothing.
    pub(crate) fn tick(&self, run: u64) {
        let mut beat = self.beat();
        if beat.run == Some(run) {
            beat.last = Some(Instant::now());
        }
    }

    pub(crate) fn overdue(&self) -> bool {
        self.beat().last.is_some_and(|last| last.elapsed() > self.within)
    }

    fn beat(&self) -> MutexGuard<'_, Beat> {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn only_a_run_that_has_ticked_can_be_overdue() {
        let pulse = Pulse::new(10 * SECOND);
        pulse.begin(1);
        advance(100 * SECOND).await;
        assert!(!pulse.overdue(), "not opted in");
        pulse.tick(1);
        advance(10 * SECOND).await;
        assert!(!pulse.overdue());
        advance(SECOND).await;
        assert!(pulse.overdue());
        pulse.tick(1);
        assert!(!pulse.overdue());
    }

    #[tokio::test(start_paused = true)]
    async fn a_tick_of_an_ended_run_counts_for_nothing() {
        let pulse = Pulse::new(10 * SECOND);
        pulse.begin(1);
        pulse.tick(1);
        pulse.end();
        pulse.tick(1);
        advance(11 * SECOND).await;
        assert!(!pulse.overdue(), "backed off is not hung");
        pulse.begin(2);
        pulse.tick(1);
        advance(11 * SECOND).await;
        assert!(!pulse.overdue());
    }
}
