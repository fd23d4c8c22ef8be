//! What the commands print.

use serde::Serialize;
use synesis_proto::control::v1::{AdapterRecord, ListAdaptersReply, SwapReply, Transfer};

use crate::units;
use crate::view::{Style, View, present, printable, table};

#[derive(Debug, Serialize)]
struct AdapterJson {
    name: String,
    sha256: String,
    size_bytes: u64,
    rank: u32,
    alpha: f32,
    architecture: Option<String>,
    targets: Vec<String>,
    imported_at: Option<String>,
    imported_by_uid: Option<u32>,
    source: Option<String>,
    source_sha256: Option<String>,
    format: Option<String>,
    base_model: Option<String>,
    active: bool,
    loaded: bool,
    last_used_at: Option<String>,
    unusable: Option<String>,
}

impl From<AdapterRecord> for AdapterJson {
    fn from(record: AdapterRecord) -> Self {
        Self {
            name: record.name,
            sha256: record.sha256,
            size_bytes: record.size_bytes,
            rank: record.rank,
            alpha: record.alpha,
            architecture: present(record.architecture),
            targets: record.targets,
            imported_at: present(record.imported_at),
            imported_by_uid: record.imported_by_uid,
            source: present(record.source),
            source_sha256: present(record.source_sha256),
            format: present(record.format),
            base_model: present(record.base_model),
            active: record.active,
            loaded: record.loaded,
            last_used_at: present(record.last_used_at),
            unusable: present(record.unusable),
        }
    }
}

impl AdapterJson {
    fn state(&self, generation: u64) -> String {
        match (self.active, &self.unusable, self.loaded) {
            (true, None, _) => format!("active, generation {generation}"),
            (true, Some(_), _) => "active, unusable".to_owned(),
            (false, Some(_), _) => "unusable".to_owned(),
            (false, None, true) => "loaded".to_owned(),
            (false, None, false) => "on disk".to_owned(),
        }
    }
}

/// One adapter that was imported.
#[derive(Debug, Serialize)]
pub(super) struct RecordView {
    schema: &'static str,
    #[serde(flatten)]
    adapter: AdapterJson,
}

impl From<AdapterRecord> for RecordView {
    fn from(record: AdapterRecord) -> Self {
        Self { schema: "synesis.adapter/1", adapter: record.into() }
    }
}

impl View for RecordView {
    fn human(&self, style: Style) -> String {
        let adapter = &self.adapter;
        let mut lines = vec![
            format!(
                "{}  rank {}, alpha {}, {}, for {}",
                style.strong(&adapter.name),
                adapter.rank,
                adapter.alpha,
                units::bytes(adapter.size_bytes),
                adapter.architecture.as_deref().unwrap_or("unknown architecture"),
            ),
            format!("sha256 {}", adapter.sha256),
            format!("targets {}", adapter.targets.join(", ")),
        ];
        if adapter.format.as_deref() == Some("peft") {
            let base = adapter.base_model.as_ref().map(|base| format!(", trained on {}", printable(base)));
            lines.push(format!("converted from PEFT{}", base.unwrap_or_default()));
        }
        lines.join("\n")
    }
}

/// All of them.
#[derive(Debug, Serialize)]
pub(super) struct ListView {
    schema: &'static str,
    generation: u64,
    adapters: Vec<AdapterJson>,
    transfers: Vec<TransferJson>,
}

impl From<ListAdaptersReply> for ListView {
    fn from(reply: ListAdaptersReply) -> Self {
        let adapters = reply.adapters.into_iter().map(AdapterJson::from).collect();
        let transfers = reply.transfers.into_iter().map(TransferJson::from).collect();
        Self { schema: "synesis.adapters/1", generation: reply.generation, adapters, transfers }
    }
}

impl View for ListView {
    fn human(&self, style: Style) -> String {
        let mut transfers = self.transfers_table(style);
        if self.adapters.is_empty() {
            transfers.insert(0, "no adapters; import one with `synctl adapter import PATH`".to_owned());
            return transfers.join("\n");
        }
        let rows: Vec<[String; 8]> = self
            .adapters
            .iter()
            .map(|adapter| {
                [
                    adapter.name.clone(),
                    adapter.state(self.generation),
                    adapter.rank.to_string(),
                    units::bytes(adapter.size_bytes),
                    adapter.architecture.clone().unwrap_or_default(),
                    adapter.format.clone().unwrap_or_default(),
                    adapter.last_used_at.as_deref().map_or_else(|| "never".to_owned(), minute),
                    adapter.source.clone().unwrap_or_default(),
                ]
            })
            .collect();
        let head = ["NAME", "STATE", "RANK", "SIZE", "FOR", "FORMAT", "LAST USED", "SOURCE"];
        let mut lines = vec![table(head, &rows, style)];
        for adapter in &self.adapters {
            if let Some(why) = &adapter.unusable {
                lines.push(format!("{}: {why}", adapter.name));
            }
        }
        lines.extend(transfers);
        lines.join("\n")
    }
}

impl ListView {
    fn transfers_table(&self, style: Style) -> Vec<String> {
        if self.transfers.is_empty() {
            return Vec::new();
        }
        let rows: Vec<[String; 5]> = self
            .transfers
            .iter()
            .map(|transfer| {
                [
                    transfer.direction.clone(),
                    transfer.name.clone(),
                    transfer.state.clone(),
                    transfer.so_far(),
                    minute(&transfer.begun_at),
                ]
            })
            .collect();
        let mut lines =
            vec![String::new(), table(["TRANSFER", "NAME", "STATE", "MOVED", "BEGUN"], &rows, style)];
        for transfer in &self.transfers {
            if let Some(why) = &transfer.reason {
                lines.push(format!("{} of {}: {}", transfer.direction, transfer.name, printable(why)));
            }
        }
        lines
    }
}

/// An adapter on its way to or from the gateway.
#[derive(Debug, Serialize)]
struct TransferJson {
    id: String,
    direction: String,
    name: String,
    sha256: String,
    size_bytes: u64,
    moved_bytes: u64,
    state: String,
    reason: Option<String>,
    next_step: Option<String>,
    begun_at: String,
}

impl From<Transfer> for TransferJson {
    fn from(transfer: Transfer) -> Self {
        Self {
            id: transfer.id,
            direction: transfer.direction,
            name: transfer.name,
            sha256: transfer.sha256,
            size_bytes: transfer.size_bytes,
            moved_bytes: transfer.moved_bytes,
            state: transfer.state,
            reason: present(transfer.reason),
            next_step: present(transfer.next_step),
            begun_at: transfer.begun_at,
        }
    }
}

impl TransferJson {
    fn so_far(&self) -> String {
        format!("{} of {}", units::bytes(self.moved_bytes), units::bytes(self.size_bytes))
    }
}

/// How a transfer ended, or goes on.
#[derive(Debug, Serialize)]
pub(super) struct TransferView {
    r#type: &'static str,
    schema: &'static str,
    #[serde(flatten)]
    transfer: TransferJson,
}

impl TransferView {
    pub(super) fn new(schema: &'static str, transfer: Transfer) -> Self {
        Self { r#type: "done", schema, transfer: transfer.into() }
    }
}

impl View for TransferView {
    fn human(&self, style: Style) -> String {
        let TransferJson { name, direction, state, sha256, size_bytes, .. } = &self.transfer;
        let name = style.strong(name);
        match (state.as_str(), direction.as_str()) {
            ("done", "push") => {
                format!("{name} is at the gateway, {}\nsha256 {sha256}", units::bytes(*size_bytes))
            }
            ("done", _) => {
                format!("{name} is on this device, {}\nsha256 {sha256}", units::bytes(*size_bytes))
            }
            _ => format!(
                "the {direction} of {name} goes on by itself ({state}): synctl adapter list shows how far it is"
            ),
        }
    }
}

/// A transfer that was ended.
#[derive(Debug, Serialize)]
pub(super) struct CancelledView {
    schema: &'static str,
    cancelled: TransferJson,
}

impl CancelledView {
    pub(super) fn new(transfer: Transfer) -> Self {
        Self { schema: "synesis.transfer_cancelled/1", cancelled: transfer.into() }
    }
}

impl View for CancelledView {
    fn human(&self, _: Style) -> String {
        let TransferJson { direction, name, .. } = &self.cancelled;
        format!("the {direction} of {name} is cancelled, after {}", self.cancelled.so_far())
    }
}

/// `2026-01-01T10:30:59.123Z` as `2026-01-01 10:30 UTC`. What is no such instant stays as it is.
pub(super) fn minute(instant: &str) -> String {
    match (instant.get(..10), instant.get(11..16)) {
        (Some(day), Some(minute)) if instant.ends_with('Z') => format!("{day} {minute} UTC"),
        _ => instant.to_owned(),
    }
}

/// What a swap did.
#[derive(Debug, Serialize)]
pub(super) struct SwapView {
    schema: &'static str,
    name: Option<String>,
    generation: u64,
    previous: Option<String>,
    swap_ms: u64,
    swap_us: u64,
    warmed: bool,
}

impl From<SwapReply> for SwapView {
    fn from(reply: SwapReply) -> Self {
        Self {
            schema: "synesis.swap/1",
            name: present(reply.name),
            generation: reply.generation,
            previous: present(reply.previous),
            swap_ms: units::whole_ms(reply.swap_ms),
            swap_us: units::whole_us(reply.swap_ms),
            warmed: reply.warmed,
        }
    }
}

impl View for SwapView {
    fn human(&self, style: Style) -> String {
        let base = || "the base model".to_owned();
        format!(
            "{} answers from now on (generation {}, before: {}), swapped in {}",
            style.strong(&self.name.clone().unwrap_or_else(base)),
            self.generation,
            self.previous.clone().unwrap_or_else(base),
            units::duration(self.swap_us as f64 / 1_000.0),
        )
    }
}

/// What is gone.
#[derive(Debug, Serialize)]
pub(super) struct RemovedView {
    schema: &'static str,
    removed: String,
}

impl RemovedView {
    pub(super) fn new(removed: String) -> Self {
        Self { schema: "synesis.adapter_removed/1", removed }
    }
}

impl View for RemovedView {
    fn human(&self, _: Style) -> String {
        format!("{} is removed", self.removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_shown_to_the_minute() {
        assert_eq!(minute("2026-01-02T03:04:05.678Z"), "2026-01-02 03:04 UTC");
        assert_eq!(minute("yesterday"), "yesterday");
    }
}
