//! How often one user may call: a token bucket per uid that holds one minute's worth and fills evenly.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Buckets kept before full ones, which remember nothing, are swept out.
const SWEEP_AT: usize = 1_024;

#[derive(Debug)]
pub(super) struct RateLimit {
    per_minute: f64,
    buckets: Mutex<HashMap<u32, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

impl RateLimit {
    pub(super) fn per_minute(requests: u32) -> Self {
        Self { per_minute: f64::from(requests), buckets: Mutex::new(HashMap::new()) }
    }

    /// Takes one request of `uid`.
    ///
    /// # Errors
    /// How long until there is one.
    pub(super) fn take(&self, uid: u32) -> Result<(), Duration> {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= SWEEP_AT {
            buckets.retain(|_, bucket| self.filled(bucket, now) < self.per_minute);
        }
        let bucket = buckets.entry(uid).or_insert(Bucket { tokens: self.per_minute, filled_at: now });
        bucket.tokens = self.filled(bucket, now);
        bucket.filled_at = now;
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) * 60.0 / self.per_minute));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    fn filled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let minutes = now.duration_since(bucket.filled_at).as_secs_f64() / 60.0;
        (bucket.tokens + minutes * self.per_minute).min(self.per_minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_minute_s_worth_at_once_then_one_at_a_time() {
        let limit = RateLimit::per_minute(60);
        for _ in 0..60 {
            limit.take(7).unwrap();
        }
        let wait = limit.take(7).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1));
        limit.take(8).unwrap();
        tokio::time::advance(wait).await;
        limit.take(7).unwrap();
        limit.take(7).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn buckets_that_are_full_again_are_forgotten() {
        let limit = RateLimit::per_minute(60);
        for uid in 0..SWEEP_AT as u32 {
            limit.take(uid).unwrap();
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        limit.take(9_999).unwrap();
        assert_eq!(limit.buckets.lock().unwrap().len(), 1);
    }
}
