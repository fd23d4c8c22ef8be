//! How long to wait before dialling again: full jitter, doubling to a cap, without end.

use std::time::Duration;

use rand::{Rng, RngExt};

/// Exponential backoff with full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first wait.
    pub base: Duration,
    /// The longest wait ever.
    pub cap: Duration,
}

impl Backoff {
    /// The longest wait after `attempt` failures in a row, counted from zero.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 1u32.checked_shl(attempt).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// A uniformly random wait between nothing and [`Self::ceiling`]: devices that were cut off together do not come
    /// back together.
    pub fn draw(&self, attempt: u32, rng: &mut impl Rng) -> Duration {
        self.ceiling(attempt).mul_f64(rng.random::<f64>())
    }

    /// The same where the gateway asked for a window: uniformly random in the window at first; when that did not help,
    /// in the longer of the two.
    pub fn draw_turn(&self, window: Duration, attempt: u32, rng: &mut impl Rng) -> Duration {
        let ceiling = if attempt == 0 { window } else { self.ceiling(attempt).max(window) };
        ceiling.mul_f64(rng.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };

    #[test]
    fn the_ceiling_doubles_from_the_base_to_the_cap_and_stays_there() {
        let seconds: Vec<_> = (0..9).map(|n| BACKOFF.ceiling(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(BACKOFF.ceiling(u32::MAX).as_secs(), 60);
    }

    #[test]
    fn a_turn_is_drawn_from_the_window_and_later_from_whatever_is_longer() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut longest = |window, attempt| {
            let draws = (0..1000).map(|_| BACKOFF.draw_turn(Duration::from_secs(window), attempt, &mut rng));
            draws.max().unwrap_or_default().as_secs_f64()
        };
        assert!((14.0..15.0).contains(&longest(15, 0)));
        assert!((14.0..15.0).contains(&longest(15, 1)), "the second ceiling is shorter than the window");
        assert!((30.0..32.0).contains(&longest(15, 5)));
        assert!(longest(0, 0) <= 0.0, "a window may be shorter than the first ceiling");
    }

    #[test]
    fn draws_fill_the_whole_range_below_the_ceiling() {
        let mut rng = StdRng::seed_from_u64(7);
        let draws: Vec<_> = (0..1000).map(|_| BACKOFF.draw(3, &mut rng)).collect();
        let ceiling = Duration::from_secs(8);
        assert!(draws.iter().all(|d| *d <= ceiling));
        assert!(draws.iter().any(|d| *d < ceiling / 10) && draws.iter().any(|d| *d > ceiling.mul_f64(0.9)));
    }
}
