//! Adapters.

use synesis_proto::control::v1::{AdapterRecord, ListAdaptersReply, SwapReply};

use super::rfc3339;
use crate::adapters::{Adapter, AdapterName, Snapshot, Swapped};

/// One adapter; `active` says whether it answers requests that name none.
pub(in crate::ipc) fn record(adapter: &Adapter, active: Option<&AdapterName>) -> AdapterRecord {
    AdapterRecord {
        name: adapter.name.to_string(),
        sha256: adapter.id.clone(),
        size_bytes: adapter.size_bytes,
        rank: adapter.rank,
        alpha: adapter.alpha,
        architecture: adapter.architecture.clone(),
        targets: adapter.targets.clone(),
        imported_at: rfc3339(adapter.imported_at),
        active: active == Some(&adapter.name),
        ..AdapterRecord::default()
    }
}

pub(in crate::ipc) fn list_reply(snapshot: &Snapshot) -> ListAdaptersReply {
    let active = snapshot.active.as_ref();
    ListAdaptersReply {
        adapters: snapshot.adapters.iter().map(|adapter| record(adapter, active)).collect(),
        generation: snapshot.generation,
    }
}

pub(in crate::ipc) fn swap_reply(swapped: Swapped) -> SwapReply {
    SwapReply {
        name: swapped.active.map(String::from).unwrap_or_default(),
        generation: swapped.generation,
        previous: swapped.previous.map(String::from).unwrap_or_default(),
        swap_ms: swapped.took.as_secs_f64() * 1e3,
        ..SwapReply::default()
    }
}
