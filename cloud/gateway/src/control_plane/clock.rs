//! The wall clock, as a value: what is stored and compared is Unix time, and tests turn it by hand.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time in milliseconds of the Unix epoch.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// The operating system's clock.
    pub(crate) fn system() -> Self {
        Self(Arc::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        }))
    }

    #[cfg(test)]
    pub(crate) fn by_hand(now_ms: Arc<std::sync::atomic::AtomicI64>) -> Self {
        Self(Arc::new(move || now_ms.load(std::sync::atomic::Ordering::SeqCst)))
    }

    pub(crate) fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

/// The calendar month (UTC) as `YYYY-MM`, which sorts by time.
pub(crate) fn month_of(now_ms: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(now_ms.div_euclid(1000))
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!("{:04}-{:02}", at.year(), u8::from(at.month()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_at_midnight_utc() {
        assert_eq!(month_of(1_767_225_599_999), "2025-12");
        assert_eq!(month_of(1_767_225_600_000), "2026-01");
    }
}
