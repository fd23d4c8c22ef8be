//! What all sessions of a gateway count together. Counters only ever grow; whoever exports them reads them as they are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How late a heartbeat may be, in milliseconds: the upper ends of the histogram's buckets.
const LATE_MS: [u64; 6] = [100, 500, 1_000, 3_000, 10_000, 30_000];

/// The counters. Hand the same to every connection with
/// [`DeviceConnection::counted`](super::DeviceConnection::counted).
#[derive(Debug)]
pub struct Tally {
    /// How much later than agreed on heartbeats came in.
    pub heartbeat_lag: Histogram<6>,
    /// Streams whose header was missing, late, unreadable or of an unknown kind.
    pub streams_refused: Counter,
    /// Control streams that broke the protocol: garbage, giant frames, a second hello.
    pub control_faults: Counter,
    /// Bytes to and from devices, as of the last heartbeat of each.
    pub sent_bytes: Counter,
    /// See [`Self::sent_bytes`].
    pub received_bytes: Counter,
    /// Sessions that were ended because nothing but bad streams came.
    pub floods: Counter,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            heartbeat_lag: Histogram::new(&LATE_MS),
            streams_refused: Counter::default(),
            control_faults: Counter::default(),
            sent_bytes: Counter::default(),
            received_bytes: Counter::default(),
            floods: Counter::default(),
        }
    }
}

/// A number that grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn count(&self) {
        self.add(1);
    }

    /// That many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations in buckets, as Prometheus counts them.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    /// The upper ends, in milliseconds, ascending.
    ends_ms: &'static [u64; N],
    buckets: [Counter; N],
    count: Counter,
    sum_us: Counter,
}

impl<const N: usize> Histogram<N> {
    /// An empty one with these upper ends in milliseconds, ascending.
    pub fn new(ends_ms: &'static [u64; N]) -> Self {
        let buckets = std::array::from_fn(|_| Counter::default());
        Self { ends_ms, buckets, count: Counter::default(), sum_us: Counter::default() }
    }

    /// Takes a duration in.
    pub fn observe(&self, duration: Duration) {
        let millis = duration.as_micros().div_ceil(1000);
        if let Some(at) = self.ends_ms.iter().position(|end| millis <= u128::from(*end)) {
            self.buckets[at].count();
        }
        self.count.count();
        self.sum_us.add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// For each upper end in milliseconds, how many durations were not longer.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut below = 0;
        self.ends_ms.iter().zip(&self.buckets).map(move |(end, bucket)| {
            below += bucket.value();
            (*end, below)
        })
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.value()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_its_bucket_and_in_all_above() {
        let lag = Histogram::new(&LATE_MS);
        for millis in [0, 100, 101, 40_000] {
            lag.observe(Duration::from_millis(millis));
        }
        let counted: Vec<_> = lag.cumulative().collect();
        assert_eq!(counted, [(100, 2), (500, 3), (1_000, 3), (3_000, 3), (10_000, 3), (30_000, 3)]);
        assert_eq!((lag.count(), lag.sum()), (4, Duration::from_millis(40_201)));
        lag.observe(Duration::from_micros(100_001));
        assert_eq!(lag.cumulative().next(), Some((100, 2)), "not rounded down into a bucket");
    }
}
