//! Warming before a swap takes effect: the keys and values of the usual beginnings of prompts are computed with the
//! new adapter, so that the first prompts after the swap are as quick as those before. A swap waits for it a bounded
//! while only; the rest is done beside the first prompts.

use std::sync::Arc;
use std::time::Duration;

use synesis_proto::runtime::v1::{WarmRequest, warm_request::Input};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Heat;
use super::heads::Heads;
use crate::model::{ModelError, ModelHandle};

/// How long a swap waits for an adapter that was loaded: the model process says at once that all is there, unless it
/// is in the middle of a step for others. A swap between loaded adapters is to take effect within 20 ms.
pub(super) const HOT: Duration = Duration::from_millis(8);
/// The same for one that was loaded just now, which is to be usable within 100 ms.
pub(super) const COLD: Duration = Duration::from_millis(40);

/// Warms adapters, one at a time: a new swap gives the warming of the one before it up.
#[derive(Debug)]
pub(super) struct Warmer {
    model: ModelHandle,
    heads: Arc<Heads>,
    running: JoinSet<()>,
}

impl Warmer {
    pub(super) fn new(model: ModelHandle, heads: Arc<Heads>) -> Self {
        Self { model, heads, running: JoinSet::new() }
    }

    /// Warms the adapter `id`, or the base model for an empty one, and waits for it at most `patience`.
    ///
    /// # Errors
    /// The model process ended meanwhile. That a beginning cannot be warmed is no error: a model without a template,
    /// or one that is too long for its context, answers all the same.
    pub(super) async fn warm(&mut self, id: &str, patience: Duration) -> Result<Heat, ModelError> {
        self.running.abort_all();
        while self.running.try_join_next().is_some() {}
        let (done, outcome) = oneshot::channel();
        let (model, chats, id) = (self.model.clone(), self.heads.chats(), id.to_owned());
        self.running.spawn(async move {
            let mut heat = Heat::Hot;
            for chat in chats {
                let request = WarmRequest {
                    input: Some(Input::Chat(chat)),
                    adapter_id: id.clone(),
                    adapter_scale: 1.0,
                };
                match model.warm(request).await {
                    Ok(reply) if reply.cached_tokens >= reply.tokens => {}
                    Ok(_) => heat = Heat::Cold,
                    Err(gone @ (ModelError::Crashed | ModelError::Replaced)) => {
                        // Nobody listens any more when the swap has been made.
                        let _ = done.send(Err(gone));
                        return;
                    }
                    Err(error) => tracing::debug!(%error, adapter = %id, "a beginning was not warmed"),
                }
            }
            let _ = done.send(Ok(heat));
        });
        match timeout(patience, outcome).await {
            Ok(Ok(heat)) => heat,
            // It goes on without us; a task that panicked warmed nothing.
            Ok(Err(_)) | Err(_) => Ok(Heat::Cold),
        }
    }
}
