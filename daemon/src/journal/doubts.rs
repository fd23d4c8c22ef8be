//! Receipts that do not hold, whether they were changed on disk or came so: what `synctl status` shows until a good one
//! has taken their place.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// More than anybody looks at; one is enough to look.
const MOST: usize = 64;

/// Request ids with what is wrong with their receipt. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Doubts(Arc<watch::Sender<BTreeMap<String, String>>>);

impl Default for Doubts {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

impl Doubts {
    /// The receipt of `request_id` does not hold: it `why`.
    pub(super) fn add(&self, request_id: &str, why: &str) {
        self.0.send_if_modified(|doubts| {
            let room = doubts.len() < MOST || doubts.contains_key(request_id);
            let known = doubts.get(request_id).is_some_and(|known| known == why);
            if room && !known {
                doubts.insert(request_id.to_owned(), why.to_owned());
            }
            room && !known
        });
    }

    /// A receipt of `request_id` that holds has been stored.
    pub(super) fn clear(&self, request_id: &str) {
        self.0.send_if_modified(|doubts| doubts.remove(request_id).is_some());
    }

    pub(super) fn watch(&self) -> watch::Receiver<BTreeMap<String, String>> {
        self.0.subscribe()
    }
}
