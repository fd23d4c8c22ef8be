//! Warming before a swap takes effect: the keys and values of the usual beginnings of prompts are computed with the
//! new adapter, so that the first prompts after the swap are as quick as those before. A swap waits for it a bounded
//! while only, and not at all for an adapter that was warmed before; the rest is done beside the first prompts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use synesis_proto::runtime::v1::{WarmRequest, warm_request::Input};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Heat;
use super::heads::{Head, Heads};
use crate::model::{ModelError, ModelHandle};

/// How long a swap waits for an adapter that was loaded: it is to take effect within 20 ms.
pub(super) const LOADED: Duration = Duration::from_millis(8);
/// The same for one that was loaded just now, which is to be usable within 100 ms.
pub(super) const FRESH: Duration = Duration::from_millis(40);

/// Warms adapters, one at a time: a new swap gives the warming of the one before it up.
#[derive(Debug)]
pub(super) struct Warmer {
    model: ModelHandle,
    heads: Arc<Heads>,
    done: Done,
    running: JoinSet<()>,
}

/// What was warmed in the model process that runs now, by adapter. The process may have let go of some of it since:
/// then the first prompts compute it.
#[derive(Debug, Clone, Default)]
struct Done(Arc<Mutex<BTreeMap<String, BTreeSet<Head>>>>);

impl Warmer {
    pub(super) fn new(model: ModelHandle, heads: Arc<Heads>) -> Self {
        Self { model, heads, done: Done::default(), running: JoinSet::new() }
    }

    /// Warms the adapter `id`, or the base model for an empty one, and waits for it at most `patience`.
    ///
    /// # Errors
    /// The model process ended meanwhile. That a beginning cannot be warmed is no error: a model without a template,
    /// or one that is too long for its context, answers all the same.
    pub(super) async fn warm(&mut self, id: &str, patience: Duration) -> Result<Heat, ModelError> {
        self.running.abort_all();
        while self.running.try_join_next().is_some() {}
        let heads = self.heads.likely();
        // What is not usual any more is not remembered.
        self.done.lock().entry(id.to_owned()).or_default().retain(|head| heads.contains(head));
        // Not again: warming needs the engine, so the prompt after the swap would wait for it, and its placeholder of a
        // user's words takes the place of a longer beginning that an earlier prompt left there.
        if self.done.has_all(id, &heads) {
            return Ok(Heat::Hot);
        }
        let (report, outcome) = oneshot::channel();
        let (model, done, owned) = (self.model.clone(), self.done.clone(), id.to_owned());
        self.running.spawn(async move {
            // Nobody listens any more when the swap has been made.
            let _ = report.send(compute(&model, &done, &owned, heads).await);
        });
        match timeout(patience, outcome).await {
            Ok(Ok(Err(gone))) => Err(gone),
            // Computed, or on its way beside the first prompts.
            Ok(_) | Err(_) => Ok(Heat::Cold),
        }
    }

    /// An adapter was loaded afresh.
    pub(super) fn forget(&self, id: &str) {
        self.done.lock().remove(id);
    }

    /// The model process is another one.
    pub(super) fn forget_all(&self) {
        self.done.lock().clear();
    }
}

/// Has everything computed that is not there.
async fn compute(model: &ModelHandle, done: &Done, id: &str, heads: Vec<Head>) -> Result<(), ModelError> {
    for head in heads {
        let input = Some(Input::Chat(head.chat()));
        let request = WarmRequest { input, adapter_id: id.to_owned(), adapter_scale: 1.0 };
        match model.warm(request).await {
            Ok(_) => {}
            Err(gone @ (ModelError::Crashed | ModelError::Replaced)) => return Err(gone),
            Err(error) => tracing::debug!(%error, adapter = %id, "a beginning was not warmed"),
        }
        // Also what cannot be: there is nothing to wait for.
        done.lock().entry(id.to_owned()).or_default().insert(head);
    }
    Ok(())
}

impl Done {
    fn has_all(&self, id: &str, heads: &[Head]) -> bool {
        self.lock().get(id).is_some_and(|done| heads.iter().all(|head| done.contains(head)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<Head>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
