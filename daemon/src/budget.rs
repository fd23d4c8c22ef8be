//! The device's own daily limit. What is spent comes from receipts; what is running counts with the hold that the
//! gateway took for it; and only one request at a time may ask for a hold, so that requests running side by side
//! cannot pass the limit together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use synesis_ledger::NanoUsd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The day's limit leaves nothing for another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the daily limit of {limit} is used up: {committed} spent or held today")]
pub struct LimitReached {
    /// `billing.daily_limit_usd`.
    pub limit: NanoUsd,
    /// Spent today, and held for requests whose cost is not known yet.
    pub committed: NanoUsd,
}

/// The limit and what counts against it.
#[derive(Debug, Clone)]
pub struct Budget {
    limit: Option<NanoUsd>,
    holds: Arc<Mutex<HashMap<String, NanoUsd>>>,
    gate: Arc<Semaphore>,
}

/// What one request may cost. Between asking and [`Allowance::held`] no other request can ask.
#[derive(Debug)]
pub struct Allowance {
    /// The most that this request may cost; none: no limit.
    pub most: Option<NanoUsd>,
    budget: Budget,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// With the configured limit; none never refuses.
    pub fn new(limit: Option<NanoUsd>) -> Self {
        Self { limit, holds: Arc::default(), gate: Arc::new(Semaphore::new(1)) }
    }

    /// Whether anything is left, given what receipts say was spent today.
    pub fn left(&self, spent: NanoUsd) -> bool {
        self.remaining(spent).is_none_or(|left| left.is_ok())
    }

    /// Waits for its turn, then says how much the next request may cost. `spent` is asked when the turn has come.
    ///
    /// # Errors
    /// When nothing is left.
    pub async fn ask(&self, spent: impl Fn() -> NanoUsd) -> Result<Allowance, LimitReached> {
        if self.limit.is_none() {
            return Ok(Allowance { most: None, budget: self.clone(), _turn: None });
        }
        // The semaphore is never closed.
        let turn = Arc::clone(&self.gate).acquire_owned().await.ok();
        let most = self.remaining(spent()).transpose()?;
        Ok(Allowance { most, budget: self.clone(), _turn: turn })
    }

    /// The request's cost is known now (from its receipt), or there is none.
    pub fn settled(&self, request_id: &str) {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner).remove(request_id);
    }

    fn remaining(&self, spent: NanoUsd) -> Option<Result<NanoUsd, LimitReached>> {
        let limit = self.limit?;
        let holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        // Saturating upwards: a sum that overflows is certainly over the limit.
        let committed = holds.values().try_fold(spent, |sum, hold| sum.checked_add(*hold)).unwrap_or(limit);
        Some(match limit.checked_sub(committed) {
            Ok(left) if left > NanoUsd::ZERO => Ok(left),
            _ => Err(LimitReached { limit, committed }),
        })
    }
}

impl Allowance {
    /// The gateway took a hold for the request; the next one may ask. The hold counts until [`Budget::settled`].
    pub fn held(self, request_id: &str, hold: NanoUsd) {
        if self.budget.limit.is_some() {
            let mut holds = self.budget.holds.lock().unwrap_or_else(PoisonError::into_inner);
            holds.insert(request_id.to_owned(), hold);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const CENT: NanoUsd = NanoUsd::from_i64(10_000_000);

    fn cents(n: i64) -> NanoUsd {
        NanoUsd::from_i64(n * 10_000_000)
    }

    #[tokio::test]
    async fn without_a_limit_nothing_is_refused_or_capped() {
        let budget = Budget::new(None);
        let allowance = budget.ask(|| cents(1_000_000)).await.unwrap();
        assert_eq!(allowance.most, None);
        assert!(budget.left(cents(1_000_000)));
    }

    #[tokio::test]
    async fn what_was_spent_and_what_is_held_both_count() {
        let budget = Budget::new(Some(cents(10)));
        let first = budget.ask(|| cents(4)).await.unwrap();
        assert_eq!(first.most, Some(cents(6)));
        first.held("a", cents(5));
        let second = budget.ask(|| cents(4)).await.unwrap();
        assert_eq!(second.most, Some(CENT));
        second.held("b", CENT);
        let refused = budget.ask(|| cents(4)).await.unwrap_err();
        assert_eq!(refused, LimitReached { limit: cents(10), committed: cents(10) });
        budget.settled("a");
        assert!(budget.left(cents(4)));
    }

    #[tokio::test]
    async fn two_requests_cannot_be_promised_the_same_money() {
        let budget = Budget::new(Some(cents(10)));
        let first = budget.ask(|| NanoUsd::ZERO).await.unwrap();
        let mut second = pin!(budget.ask(|| NanoUsd::ZERO));
        let mut context = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut context).is_pending(), "the first has not said yet what it takes");
        first.held("a", cents(8));
        assert_eq!(second.await.unwrap().most, Some(cents(2)));
    }

    #[tokio::test]
    async fn a_request_that_ended_before_its_hold_gives_its_turn_back() {
        let budget = Budget::new(Some(CENT));
        drop(budget.ask(|| NanoUsd::ZERO).await.unwrap());
        assert_eq!(budget.ask(|| NanoUsd::ZERO).await.unwrap().most, Some(CENT));
    }

    #[tokio::test]
    async fn a_sum_that_overflows_is_over_the_limit() {
        let budget = Budget::new(Some(NanoUsd::from_i64(i64::MAX)));
        budget.ask(|| NanoUsd::ZERO).await.unwrap().held("a", NanoUsd::from_i64(i64::MAX));
        assert!(!budget.left(CENT));
    }
}
