//! What the model is doing, as one value that is published whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use synesis_proto::runtime::v1::ModelInfo;

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
            reason: String::new(),
            next_step: String::new(),
            loaded_adapters: BTreeSet::new(),
            refused_adapters: BTreeMap::new(),
        }
    }

    /// The same with a reason and a next step.
    pub(super) fn because(mut self, reason: impl Into<String>, next_step: impl Into<String>) -> Self {
        self.reason = reason.into();
        self.next_step = next_step.into();
        self
    }
}
