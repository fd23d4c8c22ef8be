//! The device's own daily limit. The journal knows what is committed: charged today, or promised to requests whose cost
//! is not known yet. Here, requests take turns to ask for a part of the rest, so that those running side by side cannot
//! pass the limit together.

use std::sync::Arc;

use synesis_ledger::NanoUsd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The day's limit leaves nothing for another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daily limit of {limit} is used up: {committed} charged or promised today")]
pub struct LimitReached {
    /// `billing.daily_limit_usd`.
    pub limit: NanoUsd,
    /// Charged today, and promised to requests whose cost is not known yet.
    pub committed: NanoUsd,
}

/// The limit. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Budget {
    limit: Option<NanoUsd>,
    gate: Arc<Semaphore>,
}

/// What one request may cost. While it lives no other request can ask: it is let go when the journal counts the
/// request, whichever way.
#[derive(Debug)]
pub struct Allowance {
    /// The most that this request may cost; none: no limit.
    pub most: Option<NanoUsd>,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// With the configured limit; none never refuses.
    pub fn new(limit: Option<NanoUsd>) -> Self {
        Self { limit, gate: Arc::new(Semaphore::new(1)) }
    }

    /// Whether anything is left of the day's limit.
    pub fn left(&self, committed: NanoUsd) -> bool {
        self.remaining(committed).is_ok()
    }

    /// Waits for its turn, then says how much the next request may cost. `committed` is asked when the turn has come.
    ///
    /// # Errors
    /// When nothing is left.
    pub async fn ask(&self, committed: impl Fn() -> NanoUsd) -> Result<Allowance, LimitReached> {
        if self.limit.is_none() {
            return Ok(Allowance { most: None, _turn: None });
        }
        // The semaphore is never closed.
        let turn = Arc::clone(&self.gate).acquire_owned().await.ok();
        Ok(Allowance { most: self.remaining(committed())?, _turn: turn })
    }

    fn remaining(&self, committed: NanoUsd) -> Result<Option<NanoUsd>, LimitReached> {
        let Some(limit) = self.limit else { return Ok(None) };
        match limit.checked_sub(committed) {
            Ok(left) if left > NanoUsd::ZERO => Ok(Some(left)),
            _ => Err(LimitReached { limit, committed }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn cents(n: i64) -> NanoUsd {
        NanoUsd::from_i64(n * 10_000_000)
    }

    #[tokio::test]
    async fn without_a_limit_nothing_is_refused_or_capped() {
        let budget = Budget::new(None);
        assert_eq!(budget.ask(|| cents(1_000_000)).await.unwrap().most, None);
        assert!(budget.left(cents(1_000_000)));
    }

    #[tokio::test]
    async fn a_request_may_cost_what_is_left_and_nothing_when_nothing_is() {
        let budget = Budget::new(Some(cents(10)));
        assert_eq!(budget.ask(|| cents(4)).await.unwrap().most, Some(cents(6)));
        let refused = budget.ask(|| cents(10)).await.unwrap_err();
        assert_eq!(refused, LimitReached { limit: cents(10), committed: cents(10) });
        assert!(
            budget.left(cents(9)) && !budget.left(cents(10)) && !budget.left(NanoUsd::from_i64(i64::MAX))
        );
    }

    #[tokio::test]
    async fn two_requests_cannot_be_promised_the_same_money() {
        let (budget, committed) = (Budget::new(Some(cents(10))), Cell::new(NanoUsd::ZERO));
        let first = budget.ask(|| committed.get()).await.unwrap();
        let mut second = pin!(budget.ask(|| committed.get()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut context).is_pending(), "the first has not said yet what it takes");
        committed.set(cents(8));
        drop(first);
        assert_eq!(second.await.unwrap().most, Some(cents(2)));
    }
}
