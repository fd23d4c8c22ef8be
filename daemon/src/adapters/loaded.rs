//! Which adapters are in use, so that none is unloaded under a running answer, and which were used when. What answers
//! and who uses it change under one lock: a request either sees the old adapter and holds it, or sees the new one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use super::index::Uses;
use super::{Adapter, AdapterName, Pinned, ResolvedAdapter, Snapshot};

/// The right to find an adapter loaded; given back when dropped.
#[derive(Debug)]
pub struct Lease(());

/// The published snapshot, the leases and the uses.
#[derive(Debug)]
pub(super) struct Board {
    state: Mutex<State>,
    published: watch::Sender<Arc<Snapshot>>,
}

#[derive(Debug)]
struct State {
    snapshot: Arc<Snapshot>,
    /// Id and lease of what is loaded, most recently used last.
    loaded: Vec<(String, Arc<Lease>)>,
    uses: Uses,
}

impl Board {
    /// At the start: the model comes up with the active adapter.
    pub(super) fn new(snapshot: Snapshot, uses: Uses) -> Self {
        let snapshot = Arc::new(snapshot);
        let loaded = snapshot.active().map(|adapter| (adapter.id.clone(), Arc::new(Lease(()))));
        let loaded = loaded.into_iter().collect();
        Self {
            state: Mutex::new(State { snapshot: Arc::clone(&snapshot), loaded, uses }),
            published: watch::Sender::new(snapshot),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.published.subscribe()
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        let mut state = self.lock();
        state.uses.retain(|id, _| snapshot.has_file(id));
        state.snapshot = Arc::clone(&snapshot);
        // Under the lock: two snapshots are never published in another order than they were made.
        self.published.send_replace(snapshot);
    }

    /// What the active adapter and its generation are, the adapter held.
    pub(super) fn active(&self) -> Pinned {
        let mut state = self.lock();
        let snapshot = Arc::clone(&state.snapshot);
        let adapter = snapshot.active().map(|adapter| state.hold(adapter));
        Pinned { adapter, generation: snapshot.generation }
    }

    /// The base model at the generation of now.
    pub(super) fn base(&self) -> Pinned {
        Pinned { adapter: None, generation: self.lock().snapshot.generation }
    }

    /// `adapter`, which was loaded just now, held.
    pub(super) fn hold(&self, adapter: &Adapter) -> ResolvedAdapter {
        self.lock().hold(adapter)
    }

    /// The adapter called `name`, held, when the keeper knows it to be loaded and `usable` agrees.
    pub(super) fn hold_loaded(
        &self,
        name: &AdapterName,
        usable: impl FnOnce(&str) -> bool,
    ) -> Option<ResolvedAdapter> {
        let mut state = self.lock();
        let snapshot = Arc::clone(&state.snapshot);
        let adapter = snapshot.find(name)?;
        let known = state.loaded.iter().any(|(id, _)| *id == adapter.id);
        (known && usable(&adapter.id)).then(|| state.hold(adapter))
    }

    /// Takes out what nobody uses beyond the `kept` most recently used ones, and what no name means any more: never the
    /// active one.
    pub(super) fn evict(&self, kept: usize) -> Vec<String> {
        let mut state = self.lock();
        let State { snapshot, loaded, .. } = &mut *state;
        let active = snapshot.active().map(|adapter| adapter.id.as_str());
        let mut surplus = loaded.len().saturating_sub(kept);
        let mut evicted = Vec::new();
        loaded.retain(|(id, lease)| {
            let idle = Arc::strong_count(lease) == 1 && active != Some(id.as_str());
            let leaves = idle && (surplus > 0 || !snapshot.has_file(id));
            if leaves {
                surplus = surplus.saturating_sub(1);
                evicted.push(id.clone());
            }
            !leaves
        });
        evicted
    }

    /// Takes out one that was removed; false when an answer still runs on it, or it is not loaded.
    pub(super) fn release(&self, id: &str) -> bool {
        let mut state = self.lock();
        let at = state.loaded.iter().position(|(known, lease)| known == id && Arc::strong_count(lease) == 1);
        at.map(|at| state.loaded.remove(at)).is_some()
    }

    /// Whether an answer runs on it.
    pub(super) fn in_use(&self, id: &str) -> bool {
        self.lock().loaded.iter().any(|(known, lease)| known == id && Arc::strong_count(lease) > 1)
    }

    /// When each file was last used.
    pub(super) fn uses(&self) -> Uses {
        self.lock().uses.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hold(&mut self, adapter: &Adapter) -> ResolvedAdapter {
        let known = self.loaded.iter().position(|(id, _)| *id == adapter.id);
        let row =
            known.map_or_else(|| (adapter.id.clone(), Arc::new(Lease(()))), |at| self.loaded.remove(at));
        let lease = Arc::clone(&row.1);
        self.loaded.push(row);
        self.uses.insert(adapter.id.clone(), SystemTime::now());
        ResolvedAdapter {
            name: adapter.name.to_string(),
            id: adapter.id.clone(),
            generation: self.snapshot.generation,
            _lease: lease,
        }
    }
}
