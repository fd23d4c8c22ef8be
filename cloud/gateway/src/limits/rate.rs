//! A rate limit as a pure function of time: so many in a period, all at once if need be, then as they are refilled.

use std::time::Duration;

use tokio::time::Instant;

/// So many in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    most: u32,
    period: Duration,
}

impl Rate {
    /// `most` is at least one: a limit that nothing passes is a refusal, not a rate.
    pub(crate) const fn new(most: u32, period: Duration) -> Self {
        Self { most: if most == 0 { 1 } else { most }, period }
    }

    pub(crate) const fn per_second(most: u32) -> Self {
        Self::new(most, Duration::from_secs(1))
    }

    pub(crate) const fn per_minute(most: u32) -> Self {
        Self::new(most, Duration::from_secs(60))
    }

    pub(crate) const fn per_hour(most: u32) -> Self {
        Self::new(most, Duration::from_secs(3600))
    }

    /// What one costs.
    fn each(&self) -> Duration {
        self.period / self.most
    }
}

/// What was used of a rate. One instant is all it takes: when everything used so far will be refilled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// `None`, or in the past: nothing is missing.
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes one, or says how long it is until there is one again.
    pub(crate) fn take(&mut self, rate: &Rate, now: Instant) -> Result<(), Duration> {
        self.wait(rate, now)?;
        self.full_at = Some(self.full_at.map_or(now, |at| at.max(now)) + rate.each());
        Ok(())
    }

    /// What [`Self::take`] would say, without taking one.
    pub(crate) fn wait(&self, rate: &Rate, now: Instant) -> Result<(), Duration> {
        let missing = self.full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let over = (missing + rate.each()).saturating_sub(rate.each() * rate.most);
        if over.is_zero() { Ok(()) } else { Err(over) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_whole_period_may_be_used_at_once_and_comes_back_bit_by_bit() {
        let (rate, now) = (Rate::per_minute(100), Instant::now());
        let mut bucket = Bucket::default();
        for _ in 0..100 {
            assert_eq!(bucket.take(&rate, now), Ok(()));
        }
        assert_eq!(bucket.take(&rate, now), Err(Duration::from_millis(600)));
        assert_eq!(bucket.take(&rate, now + Duration::from_millis(500)), Err(Duration::from_millis(100)));
        let later = now + Duration::from_millis(600);
        assert_eq!(bucket.take(&rate, later), Ok(()), "the wait it named is enough");
        assert!(bucket.take(&rate, later).is_err());
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let (rate, now) = (Rate::per_hour(1), Instant::now());
        let mut bucket = Bucket::default();
        bucket.take(&rate, now).unwrap();
        for _ in 0..1000 {
            bucket.take(&rate, now).unwrap_err();
        }
        assert_eq!(bucket.take(&rate, now + 60 * MINUTE), Ok(()));
    }

    #[test]
    fn what_was_not_used_does_not_add_up() {
        let (rate, now) = (Rate::per_second(2), Instant::now());
        let mut bucket = Bucket::default();
        bucket.take(&rate, now).unwrap();
        let much_later = now + 600 * MINUTE;
        let taken = (0..10).filter(|_| bucket.take(&rate, much_later).is_ok()).count();
        assert_eq!(taken, 2);
    }

    proptest! {
        #[test]
        fn no_window_of_one_period_ever_sees_more_than_twice_the_rate(
            most in 1..20_u32, gaps in prop::collection::vec(0..20_000_u64, 1..200),
        ) {
            let rate = Rate::per_minute(most);
            let (mut bucket, mut now, mut taken) = (Bucket::default(), Instant::now(), Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                match bucket.take(&rate, now) {
                    Ok(()) => taken.push(now),
                    Err(wait) => prop_assert!(bucket.wait(&rate, now + wait).is_ok() && wait <= MINUTE),
                }
            }
            for from in &taken {
                let within = taken.iter().filter(|at| *from <= **at && at.duration_since(*from) < MINUTE);
                prop_assert!(within.count() <= 2 * most as usize);
            }
        }
    }
}
