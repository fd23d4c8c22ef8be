//! How long to wait before the next try: exponential with full jitter, so that many failing at once do not retry at once.

use std::time::Duration;

use rand::{Rng, RngExt};

/// Full-jitter exponential backoff: a delay drawn evenly from zero to `base * 2^attempt`, never above `cap`.
///
/// Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the first delay.
    pub base: Duration,
    /// Upper bound of every delay.
    pub cap: Duration,
}

impl Backoff {
    /// The upper bound of the delay after `attempt` earlier failures (0 for the first).
    #[must_use]
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// The delay after `attempt` earlier failures (0 for the first).
    pub fn delay(&self, attempt: u32, rng: &mut impl Rng) -> Duration {
        rng.random_range(Duration::ZERO..=self.ceiling(attempt))
    }
}

impl Default for Backoff {
    /// One second, doubling to one minute.
    fn default() -> Self {
        Self { base: Duration::from_secs(1), cap: Duration::from_secs(60) }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn the_ceiling_doubles_and_stays_at_the_cap() {
        let backoff = Backoff::default();
        let seconds: Vec<u64> = (0..9).map(|attempt| backoff.ceiling(attempt).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_huge_attempt_number_does_not_overflow() {
        let backoff = Backoff { base: Duration::from_secs(u64::MAX / 2), cap: Duration::MAX };
        for attempt in [31, 32, 33, u32::MAX] {
            assert_eq!(backoff.ceiling(attempt), Duration::MAX);
        }
        assert_eq!(Backoff::default().ceiling(u32::MAX), Duration::from_secs(60));
    }

    #[test]
    fn delays_fill_the_whole_range_from_zero_to_the_ceiling() {
        let backoff = Backoff { base: Duration::from_secs(8), cap: Duration::from_secs(8) };
        let mut rng = StdRng::seed_from_u64(1);
        let delays: Vec<Duration> = (0..1_000).map(|_| backoff.delay(0, &mut rng)).collect();
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(8)));
        assert!(
            delays.iter().any(|delay| *delay < Duration::from_millis(400)),
            "jitter is full: near zero too"
        );
        assert!(delays.iter().any(|delay| *delay > Duration::from_millis(7_600)));
        let mean = delays.iter().sum::<Duration>() / 1_000;
        assert!(mean.abs_diff(Duration::from_secs(4)) < Duration::from_millis(300), "{mean:?}");
    }

    #[test]
    fn a_zero_base_means_no_wait() {
        let backoff = Backoff { base: Duration::ZERO, cap: Duration::from_secs(60) };
        assert_eq!(backoff.delay(7, &mut StdRng::seed_from_u64(1)), Duration::ZERO);
    }
}
