//! Whether an adapter on disk can be used with the model that is loaded now: the model may be another one than at the
//! import.

use super::Adapter;
use crate::model::ModelStatus;

/// Why the loaded model is the wrong one for `adapter`. Only what cannot change by trying again.
pub(super) fn misfit(adapter: &Adapter, status: &ModelStatus) -> Option<String> {
    let loaded = &status.info.as_ref()?.architecture;
    (*loaded != adapter.architecture)
        .then(|| format!("it was made for {} models, the loaded model is {loaded}", adapter.architecture))
}

/// Why requests for `adapter` would fail, for people to read.
pub(super) fn unusable(adapter: &Adapter, status: &ModelStatus) -> Option<String> {
    misfit(adapter, status).or_else(|| status.refused_adapters.get(&adapter.id).cloned())
}
