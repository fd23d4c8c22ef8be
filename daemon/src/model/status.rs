//! What the model is doing, as one value that is published whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use synesis_proto::runtime::v1::{HealthReply, ModelInfo};

/// How the model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelState {
    /// None is configured.
    None,
    /// On its way, for the first time or again.
    Loading,
    /// Answers.
    Ready,
    /// Cannot be loaded.
    Failed,
}

impl ModelState {
    /// The name in the local API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

/// How busy the model process is, as of its last heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineLoad {
    /// Requests that are being answered.
    pub active: u32,
    /// Requests that could be answered at the same time.
    pub parallel: u32,
    /// Requests that wait.
    pub queued: u32,
    /// Milliseconds until a request that came now would start; 0: at once.
    pub expected_wait_ms: u64,
    /// Memory of the process, in bytes.
    pub resident_bytes: u64,
}

impl From<&HealthReply> for EngineLoad {
    fn from(health: &HealthReply) -> Self {
        Self {
            active: health.active,
            parallel: health.parallel,
            queued: health.queued,
            expected_wait_ms: health.expected_wait_ms,
            resident_bytes: health.resident_bytes,
        }
    }
}

/// The newest about the model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelStatus {
    /// How it is.
    pub state: ModelState,
    /// What users call it; empty when there is none.
    pub name: String,
    /// Its file.
    pub path: Option<PathBuf>,
    /// What the file says; only when ready.
    pub info: Option<ModelInfo>,
    /// How busy it is; only when ready. Refreshed with every heartbeat; waiters hear of a change in how many requests
    /// there are, and not of every other number in it.
    pub load: Option<EngineLoad>,
    /// Why it is not ready; empty when it is.
    pub reason: String,
    /// What to do; empty when there is nothing to do.
    pub next_step: String,
    /// Ids of the adapters that the model process holds.
    pub loaded_adapters: BTreeSet<String>,
    /// Ids of the adapters that could not be brought back after a restart, with the reason.
    pub refused_adapters: BTreeMap<String, String>,
}

impl ModelStatus {
    /// A status without info, adapters, reason or next step.
    pub(super) fn new(state: ModelState, name: String, path: Option<PathBuf>) -> Self {
        Self {
            state,
            name,
            path,
            info: None,
            load: None,
            reason: String::new(),
            next_step: String::new(),
            loaded_adapters: BTreeSet::new(),
            refused_adapters: BTreeMap::new(),
        }
    }

    /// Whether it can answer, as far as is known.
    pub fn writes_text(&self) -> bool {
        self.info.as_ref().is_none_or(|info| !info.embeddings_only)
    }

    /// Whether it makes vectors of texts, as far as is known.
    pub fn makes_embeddings(&self) -> bool {
        self.info.as_ref().is_some_and(|info| info.makes_embeddings)
    }

    /// The same with a reason and a next step.
    pub(super) fn because(mut self, reason: impl Into<String>, next_step: impl Into<String>) -> Self {
        self.reason = reason.into();
        self.next_step = next_step.into();
        self
    }
}
