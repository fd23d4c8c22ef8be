//! What the gateway counts about itself, for `/metrics`. Labels are words from this program's own source, so no device,
//! account or text can get into one.

mod family;
mod page;

use std::sync::Arc;
use std::time::Duration;

use synesis_mesh::gateway::{Counter, Histogram, Tally};
use synesis_mesh::kind::StreamKind;

pub(crate) use family::Family;
pub(crate) use page::{Gauges, page};

/// How long the store may take, in milliseconds: the upper ends of the histogram's buckets.
const STORE_MS: [u64; 8] = [1, 3, 10, 30, 100, 300, 1_000, 3_000];

/// Every counter. Clones share them.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Counters>);

impl std::ops::Deref for Metrics {
    type Target = Counters;

    fn deref(&self) -> &Counters {
        &self.0
    }
}

pub(crate) struct Counters {
    /// What the sessions count.
    pub(crate) tally: Arc<Tally>,
    /// How handshakes ended.
    pub(crate) handshakes: Family,
    /// Newcomers who were asked to prove their address first.
    pub(crate) retries: Counter,
    /// Who was turned away, before a handshake or after it, and why.
    pub(crate) refused: Family,
    /// Work streams that were served, by kind.
    pub(crate) streams: Family,
    /// Work streams that were refused, by reason.
    pub(crate) streams_refused: Family,
    /// Work streams being served.
    pub(crate) streams_ended: Family,
    /// What the store did.
    pub(crate) store: Arc<StoreCounters>,
    /// What providers failed with, by class.
    pub(crate) provider_errors: Family,
}

impl Default for Metrics {
    fn default() -> Self {
        let kinds = || StreamKind::ALL.iter().map(|kind| kind.as_str());
        Self(Arc::new(Counters {
            tally: Arc::default(),
            handshakes: Family::new([
                "device",
                "enrolment",
                "timed_out",
                "failed",
                "bad_certificate",
                "expired",
                "no_certificate",
                "bad_name",
                "no_protocol",
            ]),
            retries: Counter::default(),
            refused: Family::new([
                "source_limit",
                "device_limit",
                "superseded",
                "draining",
                "no_hello",
                "revoked",
                "unknown_device",
                "store_failed",
            ]),
            streams: Family::new(kinds()),
            streams_refused: Family::new(["rate_limited", "draining"]),
            streams_ended: Family::new(kinds()),
            store: Arc::default(),
            provider_errors: Family::new([
                "unreachable",
                "silent",
                "failing",
                "credentials",
                "refused",
                "declined",
                "too_long",
                "broke_off",
                "truncated",
                "garbled",
                "busy",
                "not_ready",
            ]),
        }))
    }
}

/// What the control plane counts.
pub(crate) struct StoreCounters {
    /// How long reading and writing took, waiting for the turn included.
    pub(crate) latency: Histogram<8>,
    pub(crate) failures: Counter,
    pub(crate) holds: Counter,
    pub(crate) settled: Counter,
    pub(crate) released: Counter,
    pub(crate) tokens_in: Counter,
    pub(crate) tokens_out: Counter,
}

impl Default for StoreCounters {
    fn default() -> Self {
        Self {
            latency: Histogram::new(&STORE_MS),
            failures: Counter::default(),
            holds: Counter::default(),
            settled: Counter::default(),
            released: Counter::default(),
            tokens_in: Counter::default(),
            tokens_out: Counter::default(),
        }
    }
}

impl StoreCounters {
    /// Counts one use of the store.
    pub(crate) fn used<T, E>(&self, outcome: &Result<T, E>, took: Duration, failed: impl Fn(&E) -> bool) {
        self.latency.observe(took);
        if outcome.as_ref().is_err_and(failed) {
            self.failures.count();
        }
    }
}
