//! Whether there is room on disk for one more adapter, and who would leave to make it. A pure decision: the keeper
//! carries it out.

use std::collections::BTreeMap;
use std::time::SystemTime;

use thiserror::Error;

use super::{Adapter, AdapterName, Snapshot};
use crate::config::WhenFull;

/// The adapters take all the room they may.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "there is no room: the adapter takes {needed} bytes, and {used} of the {limit} bytes that adapters may take are taken"
)]
pub struct Full {
    /// Size of the new file.
    pub needed: u64,
    /// What the others take.
    pub used: u64,
    /// `adapters.max_total_bytes`.
    pub limit: u64,
    /// Removing these, the least recently used, would make room; empty: nothing that may be removed would.
    pub removable: Vec<AdapterName>,
}

/// What the decision rests on.
pub(super) struct Room<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) limit: u64,
    pub(super) when_full: WhenFull,
    /// When the file with an id was last used or taken in.
    pub(super) last_used: &'a dyn Fn(&str) -> SystemTime,
    /// Whether an answer runs on it.
    pub(super) busy: &'a dyn Fn(&str) -> bool,
}

impl Room<'_> {
    /// The ids that leave for `new`, least recently used first.
    ///
    /// # Errors
    /// There is no room and nobody may leave.
    pub(super) fn for_new(&self, new: &Adapter) -> Result<Vec<String>, Full> {
        // Several names may mean the same file.
        let files: BTreeMap<&str, u64> =
            self.snapshot.adapters.iter().map(|adapter| (adapter.id.as_str(), adapter.size_bytes)).collect();
        let used = files.values().fold(0_u64, |sum, size| sum.saturating_add(*size));
        let beyond = used.saturating_add(new.size_bytes).saturating_sub(self.limit);
        if beyond == 0 || files.contains_key(new.id.as_str()) {
            return Ok(Vec::new());
        }
        let leaving = self.freeing(beyond, &files);
        match (self.when_full, leaving) {
            (WhenFull::Evict, Some(leaving)) => Ok(leaving),
            (_, leaving) => Err(Full {
                needed: new.size_bytes,
                used,
                limit: self.limit,
                removable: self.names_of(&leaving.unwrap_or_default()),
            }),
        }
    }

    /// The least recently used files that take `bytes` or more; none when that cannot be had.
    fn freeing(&self, bytes: u64, files: &BTreeMap<&str, u64>) -> Option<Vec<String>> {
        let active = self.snapshot.active().map(|adapter| adapter.id.as_str());
        let mut idle: Vec<(&str, u64)> = files
            .iter()
            .map(|(id, size)| (*id, *size))
            .filter(|(id, _)| Some(*id) != active && !(self.busy)(id))
            .collect();
        idle.sort_by_key(|(id, _)| (self.last_used)(id));
        let (mut freed, mut leaving) = (0_u64, Vec::new());
        for (id, size) in idle {
            if freed >= bytes {
                break;
            }
            freed = freed.saturating_add(size);
            leaving.push(id.to_owned());
        }
        (freed >= bytes).then_some(leaving)
    }

    fn names_of(&self, ids: &[String]) -> Vec<AdapterName> {
        ids.iter()
            .flat_map(|id| self.snapshot.adapters.iter().filter(move |adapter| adapter.id == *id))
            .map(|adapter| adapter.name.clone())
            .collect()
    }
}
