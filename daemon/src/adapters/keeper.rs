//! The `adapters` subsystem: the one place where the set of adapters and the active one change, one change at a time.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::handle::Command;
use super::loaded::Board;
use super::staging::Staged;
use super::{
    Adapter, AdapterError, AdapterName, AdapterSpec, AdaptersHandle, Index, ResolvedAdapter, Swapped,
};
use crate::model::ModelHandle;

const QUEUE: usize = 16;

/// Keeps the adapters. See the module's first sentence.
#[derive(Debug)]
pub struct AdapterKeeper {
    index: Index,
    board: Arc<Board>,
    model: ModelHandle,
    commands: mpsc::Receiver<Command>,
    handle: AdaptersHandle,
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
        let board = Arc::new(Board::new(index.snapshot().clone()));
        let (sender, commands) = mpsc::channel(QUEUE);
        let handle = AdaptersHandle::new(spec, sender, Arc::clone(&board), model.clone());
        Ok((Self { index, board, model, commands, handle: handle.clone() }, handle))
    }

    async fn carry_out(&mut self, command: Command) {
        // A caller that left does not undo what it asked for.
        match command {
            Command::Admit { name, staged, reply } => drop(reply.send(self.admit(name, staged).await)),
            Command::Swap { to, expected, reply } => drop(reply.send(self.swap(to, expected).await)),
            Command::Load { name, reply } => drop(reply.send(self.load(&name).await)),
            Command::Remove { name, reply } => drop(reply.send(self.remove(&name).await)),
        }
        for id in self.board.evict() {
            if let Err(error) = self.model.unload_adapter(&id).await {
                tracing::debug!(%error, adapter = %id, "could not unload an adapter that nobody uses");
            }
        }
    }

    async fn admit(&mut self, name: AdapterName, staged: Staged) -> Result<Adapter, AdapterError> {
        if let Some(known) = self.index.snapshot().find(&name) {
            return if known.id == staged.id { Ok(known.clone()) } else { Err(AdapterError::Exists(name)) };
        }
        let info = self.model.inspect_adapter(staged.path()).await?;
        let adapter = Adapter {
            name,
            id: staged.id.clone(),
            size_bytes: staged.size_bytes,
            rank: info.rank,
            alpha: info.alpha,
            architecture: info.architecture,
            targets: info.targets,
            imported_at: SystemTime::now(),
        };
        let file = self.index.file(&adapter.id);
        staged.publish(&file).await.map_err(AdapterError::Store)?;
        let mut next = self.index.snapshot().clone();
        next.adapters.push(adapter.clone());
        next.adapters.sort_by(|a, b| a.name.cmp(&b.name));
        self.publish(next).await?;
        tracing::info!(adapter = %adapter.name, id = %adapter.id, bytes = adapter.size_bytes, "adapter imported");
        Ok(adapter)
    }

    async fn swap(
        &mut self,
        to: Option<AdapterName>,
        expected: Option<u64>,
    ) -> Result<Swapped, AdapterError> {
        let begun = Instant::now();
        let mut next = self.index.snapshot().clone();
        let (previous, current) = (next.active.clone(), next.generation);
        if let Some(expected) = expected.filter(|expected| *expected != current) {
            return Err(AdapterError::GenerationChanged { expected, current });
        }
        if let Some(name) = &to {
            self.load(name).await?;
        }
        if to != previous {
            next.active.clone_from(&to);
            next.generation += 1;
            self.publish(next).await?;
        }
        let generation = self.index.snapshot().generation;
        let name = to.as_ref().map_or("", AdapterName::as_str);
        tracing::info!(adapter = name, generation, "adapter swapped");
        Ok(Swapped { active: to, generation, previous, took: begun.elapsed() })
    }

    async fn load(&mut self, name: &AdapterName) -> Result<ResolvedAdapter, AdapterError> {
        let adapter = self.index.snapshot().find(name).ok_or_else(|| AdapterError::NotFound(name.clone()))?;
        self.model.load_adapter(&adapter.id, &self.index.file(&adapter.id)).await?;
        Ok(self.board.hold(adapter))
    }

    async fn remove(&mut self, name: &AdapterName) -> Result<(), AdapterError> {
        let mut next = self.index.snapshot().clone();
        let id = next.find(name).ok_or_else(|| AdapterError::NotFound(name.clone()))?.id.clone();
        if next.active.as_ref() == Some(name) {
            return Err(AdapterError::InUse(name.clone()));
        }
        next.adapters.retain(|adapter| adapter.name != *name);
        let shared = next.adapters.iter().any(|adapter| adapter.id == id);
        self.publish(next).await?;
        tracing::info!(adapter = %name, "adapter removed");
        if shared {
            return Ok(());
        }
        if self.board.release(&id)
            && let Err(error) = self.model.unload_adapter(&id).await
        {
            tracing::debug!(%error, adapter = %id, "could not unload a removed adapter");
        }
        // The index no longer knows the file: what cannot be deleted now goes at the next start.
        if let Err(error) = tokio::fs::remove_file(self.index.file(&id)).await {
            tracing::warn!(%error, adapter = %id, "could not delete a removed adapter's file");
        }
        Ok(())
    }

    async fn publish(&mut self, next: super::Snapshot) -> Result<(), AdapterError> {
        self.index.replace(next).await.map_err(AdapterError::Store)?;
        self.board.publish(self.index.snapshot().clone());
        Ok(())
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
                let status = status.borrow();
                let why = status.refused_adapters.get(&adapter.id).map_or("it is not loaded", String::as_str);
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
        self.report(cx);
        cx.ready();
        loop {
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                changed = model.changed() => changed?,
                command = self.commands.recv() => match command {
                    Some(command) => self.carry_out(command).await,
                    // The handle in `self` keeps the queue open.
                    None => return Ok(()),
                },
            }
            self.report(cx);
        }
    }
}
