//! Adapters.

use bytes::Bytes;
use synesis_proto::control::v1::{AdapterRecord, ImportChunk, ImportPart, ListAdaptersReply, SwapReply};

use super::rfc3339;
use crate::adapters::{Heat, Listed, Part, Piece, Swapped};

/// A piece of an import; none for a part of a newer protocol.
pub(in crate::ipc) fn piece(chunk: ImportChunk) -> Option<Piece> {
    let part = match ImportPart::try_from(chunk.part).ok()? {
        ImportPart::Unspecified | ImportPart::Gguf => Part::Gguf,
        ImportPart::PeftConfig => Part::PeftConfig,
        ImportPart::PeftWeights => Part::PeftWeights,
    };
    Some(Piece { part, data: Bytes::from(chunk.data) })
}

/// One adapter.
pub(in crate::ipc) fn record(listed: Listed) -> AdapterRecord {
    let Listed { adapter, active, loaded, last_used, unusable } = listed;
    AdapterRecord {
        name: adapter.name.to_string(),
        sha256: adapter.id,
        size_bytes: adapter.size_bytes,
        rank: adapter.rank,
        alpha: adapter.alpha,
        architecture: adapter.architecture,
        targets: adapter.targets,
        imported_at: rfc3339(adapter.imported_at),
        active,
        source: adapter.origin.source,
        format: adapter.origin.format.as_str().to_owned(),
        base_model: adapter.origin.base_model,
        imported_by_uid: adapter.origin.imported_by,
        loaded,
        last_used_at: last_used.map(rfc3339).unwrap_or_default(),
        source_sha256: adapter.origin.weights_sha256.unwrap_or_default(),
        unusable: unusable.unwrap_or_default(),
    }
}

pub(in crate::ipc) fn list_reply((adapters, generation): (Vec<Listed>, u64)) -> ListAdaptersReply {
    ListAdaptersReply { adapters: adapters.into_iter().map(record).collect(), generation }
}

pub(in crate::ipc) fn swap_reply(swapped: Swapped) -> SwapReply {
    SwapReply {
        name: swapped.active.map(String::from).unwrap_or_default(),
        generation: swapped.generation,
        previous: swapped.previous.map(String::from).unwrap_or_default(),
        swap_ms: swapped.took.as_secs_f64() * 1e3,
        warmed: swapped.heat == Heat::Cold,
    }
}
