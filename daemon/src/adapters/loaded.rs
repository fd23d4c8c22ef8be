//! Which adapters are in use, so that none is unloaded under a running answer. What answers and who uses it change
//! under one lock: a request either sees the old adapter and holds it, or sees the new one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{Adapter, ResolvedAdapter, Snapshot};

/// Adapters that stay loaded although nobody uses them; a small one takes about 2 MB.
const KEPT: usize = 4;

/// The right to find an adapter loaded; given back when dropped.
#[derive(Debug)]
pub struct Lease(());

/// The published snapshot and the leases.
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
}

impl Board {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let snapshot = Arc::new(snapshot);
        Self {
            state: Mutex::new(State { snapshot: Arc::clone(&snapshot), loaded: Vec::new() }),
            published: watch::Sender::new(snapshot),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.published.subscribe()
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        self.lock().snapshot = Arc::clone(&snapshot);
        self.published.send_replace(snapshot);
    }

    /// The active adapter, held.
    pub(super) fn active(&self) -> Option<ResolvedAdapter> {
        let mut state = self.lock();
        let snapshot = Arc::clone(&state.snapshot);
        snapshot.active().map(|adapter| state.hold(adapter))
    }

    /// `adapter`, which was loaded just now, held.
    pub(super) fn hold(&self, adapter: &Adapter) -> ResolvedAdapter {
        self.lock().hold(adapter)
    }

    /// Takes out what nobody uses beyond the few that are kept: never the active one.
    pub(super) fn evict(&self) -> Vec<String> {
        let mut state = self.lock();
        let active = state.snapshot.active().map(|adapter| adapter.id.clone());
        let mut surplus = state.loaded.len().saturating_sub(KEPT);
        let mut evicted = Vec::new();
        state.loaded.retain(|(id, lease)| {
            let keep = surplus == 0 || Arc::strong_count(lease) > 1 || active.as_ref() == Some(id);
            if !keep {
                surplus -= 1;
                evicted.push(id.clone());
            }
            keep
        });
        evicted
    }

    /// Takes out one that was removed; false when an answer still runs on it.
    pub(super) fn release(&self, id: &str) -> bool {
        let mut state = self.lock();
        let in_use = state.loaded.iter().any(|(known, lease)| known == id && Arc::strong_count(lease) > 1);
        if !in_use {
            state.loaded.retain(|(known, _)| known != id);
        }
        !in_use
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
        ResolvedAdapter {
            name: adapter.name.to_string(),
            id: adapter.id.clone(),
            generation: self.snapshot.generation,
            _lease: lease,
        }
    }
}
