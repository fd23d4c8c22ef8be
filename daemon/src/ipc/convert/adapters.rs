//! Adapters.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use synesis_proto::control::v1 as pb;
use synesis_proto::control::v1::{AdapterRecord, ImportChunk, ImportPart, ListAdaptersReply, SwapReply};

use super::rfc3339;
use crate::adapters::{Heat, Listed, Part, Piece, Swapped};
use crate::transfers::{Ending, Phase, StoredAdapter, Transfer, TransferEvent};

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

pub(in crate::ipc) fn list_reply(
    (adapters, generation): (Vec<Listed>, u64),
    transfers: &[Transfer],
) -> ListAdaptersReply {
    let adapters = adapters.into_iter().map(record).collect();
    ListAdaptersReply { adapters, generation, transfers: transfers.iter().map(transfer).collect() }
}

/// One transfer, as it is now.
pub(in crate::ipc) fn transfer(transfer: &Transfer) -> pb::Transfer {
    let job = &transfer.job;
    let (reason, next_step) = match (job.ending.as_ref().and_then(Ending::problem), &transfer.phase) {
        (Some(problem), _) => (problem.message, problem.next_step),
        (None, Phase::Waiting(why)) => (why.clone(), String::new()),
        (None, _) => Default::default(),
    };
    let begun = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(job.begun_at_ms));
    pb::Transfer {
        id: job.id.clone(),
        direction: job.direction.as_str().to_owned(),
        name: job.name.clone(),
        sha256: job.sha256.clone(),
        size_bytes: job.size_bytes,
        moved_bytes: transfer.moved,
        state: transfer.state().to_owned(),
        reason,
        next_step,
        begun_at: begun.map(rfc3339).unwrap_or_default(),
    }
}

pub(in crate::ipc) fn transfer_event(event: TransferEvent) -> pb::TransferEvent {
    use pb::transfer_event::Event;
    let event = match event {
        TransferEvent::Started(now) => Event::Started(pb::PullStarted {
            source: now.job.name,
            total_bytes: now.job.size_bytes,
            resumed_bytes: now.moved,
        }),
        TransferEvent::Progress(now) => Event::Progress(pb::PullProgress {
            received_bytes: now.moved,
            total_bytes: now.job.size_bytes,
            phase: now.state().to_owned(),
        }),
        TransferEvent::Done(now) => Event::Done(transfer(&now)),
    };
    pb::TransferEvent { event: Some(event) }
}

/// An adapter at the gateway, and whether this device has it, too.
pub(in crate::ipc) fn cloud_adapter(adapter: StoredAdapter, here: bool) -> pb::CloudAdapter {
    pb::CloudAdapter {
        name: adapter.name,
        sha256: adapter.sha256,
        size_bytes: adapter.size_bytes,
        architecture: adapter.architecture,
        rank: adapter.rank,
        alpha: adapter.alpha,
        base_model: adapter.base_model,
        pushed_by: adapter.pushed_by,
        pushed_at: rfc3339(adapter.pushed_at),
        here,
    }
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
