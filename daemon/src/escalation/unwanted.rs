//! Requests that were given up while the gateway may still work on them. It is told on the next connection, so that the
//! provider stops and only what was made is charged.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The gateway gives a request up by itself after a while; those beyond this many wait for that.
const MOST: usize = 64;

/// Request ids. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Unwanted(Arc<Mutex<VecDeque<String>>>);

/// A request that is under way; dropped before [`ended`](Self::ended), it becomes an unwanted one.
#[derive(Debug)]
pub(super) struct UnderWay {
    request_id: Option<String>,
    unwanted: Unwanted,
}

impl Unwanted {
    pub(super) fn under_way(&self, request_id: &str) -> UnderWay {
        UnderWay { request_id: Some(request_id.to_owned()), unwanted: self.clone() }
    }

    /// Takes the request off the list; whether it was on it.
    pub(super) fn take(&self, request_id: &str) -> bool {
        let mut all = self.lock();
        let at = all.iter().position(|id| id == request_id);
        at.and_then(|at| all.remove(at)).is_some()
    }

    pub(super) fn add(&self, request_id: String) {
        let mut all = self.lock();
        all.truncate(MOST - 1);
        all.push_front(request_id);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    /// The gateway has made all that it will.
    pub(super) fn ended(&mut self) {
        self.request_id = None;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(request_id) = self.request_id.take() {
            self.unwanted.add(request_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_before_its_end_is_unwanted_and_taken_once() {
        let unwanted = Unwanted::default();
        drop(unwanted.under_way("given up"));
        let mut finished = unwanted.under_way("finished");
        finished.ended();
        drop(finished);
        assert!(!unwanted.take("finished"));
        assert!(unwanted.take("given up"));
        assert!(!unwanted.take("given up"));
    }

    #[test]
    fn the_list_is_bounded_and_the_oldest_leave() {
        let unwanted = Unwanted::default();
        for n in 0..=MOST {
            unwanted.add(n.to_string());
        }
        assert!(!unwanted.take("0"));
        assert!(unwanted.take("1") && unwanted.take(&MOST.to_string()));
    }
}
