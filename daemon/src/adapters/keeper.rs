//! The `adapters` subsystem: the one place where the set of adapters and the active one change, one change at a time.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::handle::Command;
use super::loaded::Board;
use super::room::Room;
use super::staging::Staged;
use super::warm::{self, Warmer};
use super::{
    Adapter, AdapterError, AdapterName, AdapterSpec, AdaptersHandle, Heat, Index, ResolvedAdapter, Snapshot,
    Swapped, fit,
};
use crate::model::{ModelHandle, ModelState};

const QUEUE: usize = 16;
/// How often unused adapters are let go and the times of use are written, if there are new ones. The times decide who
/// leaves a full disk: after a crash they may be this old.
const HOUSEKEEPING: Duration = Duration::from_secs(300);

/// Keeps the adapters. See the module's first sentence.
#[derive(Debug)]
pub struct AdapterKeeper {
    spec: AdapterSpec,
    index: Index,
    board: Arc<Board>,
    model: ModelHandle,
    warmer: Warmer,
    commands: mpsc::Receiver<Command>,
    handle: AdaptersHandle,
}

/// Whether an adapter was loaded when it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Loaded,
    Elsewhere,
}

impl AdapterKeeper {
    /// Reads the index, and asks the model to come up with the active adapter.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn open(spec: &AdapterSpec, model: ModelHandle) -> io::Result<(Self, AdaptersHandle)> {
        let index = Index::open(&spec.folder)?;
        if let Some(adapter) = index.snapshot().active() {
            model.want_adapter(&adapter.id, &index.file(&adapter.id));
        }
        let board = Arc::new(Board::new(index.snapshot().clone(), index.uses().clone()));
        let (sender, commands) = mpsc::channel(QUEUE);
        let handle = AdaptersHandle::new(spec, sender, Arc::clone(&board), model.clone());
        let warmer = Warmer::new(model.clone(), Arc::clone(&handle.heads));
        let keeper =
            Self { spec: spec.clone(), index, board, model, warmer, commands, handle: handle.clone() };
        Ok((keeper, handle))
    }

    async fn carry_out(&mut self, command: Command) {
        // A caller that left does not undo what it asked for.
        match command {
            Command::Admit { adapter, staged, reply } => {
                drop(reply.send(self.admit(*adapter, staged).await));
            }
            Command::Swap { to, expected, reply } => drop(reply.send(self.swap(to, expected).await)),
            Command::Load { name, reply } => {
                let loaded = self.bring(&name).await.map(|(adapter, _)| adapter);
                drop(reply.send(loaded));
            }
            Command::Remove { name, reply } => drop(reply.send(self.remove(&name).await)),
        }
        self.let_go().await;
    }

    async fn admit(&mut self, adapter: Adapter, staged: Staged) -> Result<Adapter, AdapterError> {
        if let Some(known) = self.index.snapshot().find(&adapter.name) {
            let same = known.id == adapter.id;
            return if same { Ok(known.clone()) } else { Err(AdapterError::Exists(adapter.name)) };
        }
        let leaving = self.room_for(&adapter)?;
        staged.publish(&self.index.file(&adapter.id)).await.map_err(AdapterError::Store)?;
        let mut next = self.index.snapshot().clone();
        next.adapters.retain(|known| !leaving.contains(&known.id));
        next.adapters.push(adapter.clone());
        next.adapters.sort_by(|a, b| a.name.cmp(&b.name));
        let before = self.index.snapshot().clone();
        self.publish(next).await?;
        for known in before.adapters.iter().filter(|known| leaving.contains(&known.id)) {
            tracing::info!(adapter = %known.name, id = %known.id, bytes = known.size_bytes, "adapter evicted to make room");
        }
        for id in &leaving {
            self.delete(id).await;
        }
        tracing::info!(
            adapter = %adapter.name, id = %adapter.id, bytes = adapter.size_bytes,
            format = adapter.origin.format.as_str(), "adapter imported"
        );
        Ok(adapter)
    }

    /// Ids of the files that leave for `adapter`.
    fn room_for(&self, adapter: &Adapter) -> Result<Vec<String>, AdapterError> {
        let (snapshot, uses) = (self.index.snapshot(), self.board.uses());
        let imported = |id: &str| {
            let files = snapshot.adapters.iter().filter(|known| known.id == id);
            files.map(|known| known.imported_at).max().unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let room = Room {
            snapshot,
            limit: self.spec.max_total_bytes,
            when_full: self.spec.when_full,
            last_used: &|id| uses.get(id).copied().unwrap_or_else(|| imported(id)),
            busy: &|id| self.board.in_use(id),
        };
        Ok(room.for_new(adapter)?)
    }

    async fn swap(
        &mut self,
        to: Option<AdapterName>,
        expected: Option<u64>,
    ) -> Result<Swapped, AdapterError> {
        let mut next = self.index.snapshot().clone();
        let (previous, current) = (next.active.clone(), next.generation);
        if let Some(expected) = expected.filter(|expected| *expected != current) {
            return Err(AdapterError::GenerationChanged { expected, current });
        }
        let heat = match &to {
            Some(name) => self.heat(name).await?,
            None => self.heat_base().await,
        };
        if to != previous {
            next.active.clone_from(&to);
            next.generation += 1;
            self.publish(next).await?;
        }
        let generation = self.index.snapshot().generation;
        let name = to.as_ref().map_or("", AdapterName::as_str);
        tracing::info!(adapter = name, generation, ?heat, "adapter swapped");
        Ok(Swapped { active: to, generation, previous, heat, took: Duration::ZERO })
    }

    /// Loads and warms; the lease ends with it, the place among the loaded ones stays.
    async fn heat(&mut self, name: &AdapterName) -> Result<Heat, AdapterError> {
        // Asked for by somebody who may, so it is tried again whatever it did. A request that names it is not enough:
        // any user could end the model process again and again.
        if let Some(known) =
            self.index.snapshot().find(name).filter(|known| !self.handle.is_loaded(&known.id))
        {
            self.model.lift_adapter(&known.id).await;
        }
        let (adapter, found) = self.bring(name).await?;
        match found {
            Found::Loaded => Ok(self.warmer.warm(&adapter.id, warm::LOADED).await?),
            Found::Elsewhere => {
                self.warmer.forget(&adapter.id);
                Ok(self.warmer.warm(&adapter.id, warm::FRESH).await?)
            }
        }
    }

    /// The base model is always there, and switching to it must work when the model does not.
    async fn heat_base(&mut self) -> Heat {
        self.warmer.warm("", warm::LOADED).await.unwrap_or(Heat::Cold)
    }

    /// The adapter, held, loaded when it was not.
    async fn bring(&self, name: &AdapterName) -> Result<(ResolvedAdapter, Found), AdapterError> {
        let snapshot = self.index.snapshot();
        let adapter = snapshot.find(name).ok_or_else(|| AdapterError::NotFound(name.clone()))?;
        if let Some(why) = fit::misfit(adapter, &self.model.status().borrow()) {
            return Err(AdapterError::Unusable { name: name.clone(), why });
        }
        let found = if self.handle.is_loaded(&adapter.id) { Found::Loaded } else { Found::Elsewhere };
        if found == Found::Elsewhere {
            self.model.load_adapter(&adapter.id, &self.index.file(&adapter.id)).await?;
        }
        Ok((self.board.hold(adapter), found))
    }

    async fn remove(&mut self, name: &AdapterName) -> Result<(), AdapterError> {
        let mut next = self.index.snapshot().clone();
        let id = next.find(name).ok_or_else(|| AdapterError::NotFound(name.clone()))?.id.clone();
        if next.active.as_ref() == Some(name) {
            return Err(AdapterError::InUse(name.clone()));
        }
        next.adapters.retain(|adapter| adapter.name != *name);
        let shared = next.has_file(&id);
        self.publish(next).await?;
        tracing::info!(adapter = %name, "adapter removed");
        if !shared {
            self.delete(&id).await;
        }
        Ok(())
    }

    /// Lets go of a file that the index does not know any more. One that an answer runs on stays in memory until that
    /// has ended.
    async fn delete(&self, id: &str) {
        if self.board.release(id) {
            self.unload(id).await;
        }
        // What cannot be deleted now goes at the next start.
        if let Err(error) = tokio::fs::remove_file(self.index.file(id)).await {
            tracing::warn!(%error, adapter = %id, "could not delete a removed adapter's file");
        }
    }

    /// Unloads what nobody uses beyond the few that are kept.
    async fn let_go(&self) {
        for id in self.board.evict(self.spec.max_loaded) {
            self.unload(&id).await;
        }
    }

    async fn unload(&self, id: &str) {
        self.warmer.forget(id);
        if let Err(error) = self.model.unload_adapter(id).await {
            tracing::debug!(%error, adapter = %id, "could not unload an adapter that nobody uses");
        }
    }

    async fn publish(&mut self, next: Snapshot) -> Result<(), AdapterError> {
        let mut uses = self.board.uses();
        uses.retain(|id, _| next.has_file(id));
        self.index.replace(next, uses).await.map_err(AdapterError::Store)?;
        self.board.publish(self.index.snapshot().clone());
        Ok(())
    }

    /// Writes the times of use, if there are new ones.
    async fn write_uses(&mut self) {
        let uses = self.board.uses();
        if uses == *self.index.uses() {
            return;
        }
        if let Err(error) = self.index.replace(self.index.snapshot().clone(), uses).await {
            tracing::warn!(%error, "could not write when the adapters were last used; it is tried again");
        }
    }

    /// Says on the health board what is wrong with the adapters, if anything is.
    fn report(&self, cx: &Context) {
        if let Some(kept) = self.index.damaged() {
            let reason = format!("the list of adapters was damaged and is kept as {}", kept.display());
            return cx.degraded(reason, "import the adapters again, and delete that file");
        }
        match self.index.snapshot().active().filter(|adapter| self.handle.is_lost(&adapter.id)) {
            None => cx.healthy(),
            Some(adapter) => {
                let status = self.model.status();
                let why = fit::unusable(adapter, &status.borrow());
                let why = why.unwrap_or_else(|| "it is not loaded".to_owned());
                cx.degraded(
                    format!(
                        "adapter {} could not be brought back, the base model answers: {why}",
                        adapter.name
                    ),
                    "swap to another adapter, or switch adapters off",
                );
            }
        }
    }
}

#[async_trait]
impl Subsystem for AdapterKeeper {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let stopping = cx.stopping();
        let mut model = self.model.status();
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.report(cx);
        cx.ready();
        loop {
            tokio::select! {
                () = stopping.cancelled() => {
                    self.write_uses().await;
                    return Ok(());
                }
                changed = model.changed() => {
                    changed?;
                    if model.borrow_and_update().state != ModelState::Ready {
                        self.warmer.forget_all();
                    }
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.carry_out(command).await,
                    // The handle in `self` keeps the queue open.
                    None => return Ok(()),
                },
                _ = housekeeping.tick() => {
                    self.let_go().await;
                    self.write_uses().await;
                }
            }
            self.report(cx);
        }
    }
}
