//! How the rest of the daemon uses adapters. What a request needs of an adapter that is loaded runs in the caller's
//! task; whatever changes something is queued to the one keeper and completed even when the caller leaves.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::heads::Heads;
use super::loaded::Board;
use super::staging::Staged;
use super::{
    Adapter, AdapterError, AdapterName, AdapterSpec, Listed, Pinned, ResolvedAdapter, Snapshot, Swapped, fit,
};
use crate::model::{ModelHandle, ModelState};

/// "The base model", where a request names an adapter.
const BASE: &str = "none";

pub(super) type Reply<T> = oneshot::Sender<Result<T, AdapterError>>;

/// What the keeper is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// Store a file that passed every check.
    Admit {
        adapter: Box<Adapter>,
        staged: Staged,
        reply: Reply<Adapter>,
    },
    Swap {
        to: Option<AdapterName>,
        expected: Option<u64>,
        reply: Reply<Swapped>,
    },
    Load {
        name: AdapterName,
        reply: Reply<ResolvedAdapter>,
    },
    Remove {
        name: AdapterName,
        reply: Reply<()>,
    },
}

/// The adapters of this device. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct AdaptersHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) board: Arc<Board>,
    pub(super) heads: Arc<Heads>,
    pub(super) model: ModelHandle,
    pub(super) folder: PathBuf,
    pub(super) max_bytes: u64,
}

impl AdaptersHandle {
    pub(super) fn new(
        spec: &AdapterSpec,
        commands: mpsc::Sender<Command>,
        board: Arc<Board>,
        model: ModelHandle,
    ) -> Self {
        let (folder, max_bytes) = (spec.folder.clone(), spec.max_bytes);
        Self { commands, board, heads: Arc::default(), model, folder, max_bytes }
    }

    /// The adapters, and every change of them.
    pub fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.board.subscribe()
    }

    /// Where the file of the adapter with this id is.
    pub(crate) fn file(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.gguf"))
    }

    /// Every adapter by name, with what changes about it all the time, and the generation.
    pub fn list(&self) -> (Vec<Listed>, u64) {
        let snapshot = Arc::clone(&self.snapshot().borrow());
        let listed = snapshot.adapters.iter().map(|adapter| self.listed(adapter, &snapshot)).collect();
        (listed, snapshot.generation)
    }

    /// One adapter, as [`Self::list`] shows it.
    pub fn show(&self, adapter: &Adapter) -> Listed {
        let snapshot = Arc::clone(&self.snapshot().borrow());
        self.listed(adapter, &snapshot)
    }

    fn listed(&self, adapter: &Adapter, snapshot: &Snapshot) -> Listed {
        let status = self.model.status();
        let status = status.borrow();
        Listed {
            active: snapshot.active.as_ref() == Some(&adapter.name),
            loaded: status.loaded_adapters.contains(&adapter.id),
            last_used: self.board.uses().get(&adapter.id).copied(),
            unusable: fit::unusable(adapter, &status),
            adapter: adapter.clone(),
        }
    }

    /// Makes `name` answer new requests once it is loaded and warm. With `expected`, only at that generation.
    ///
    /// # Errors
    /// No such adapter, another swap came first, or the model cannot load it; the old one goes on answering.
    pub async fn swap(&self, name: &str, expected: Option<u64>) -> Result<Swapped, AdapterError> {
        let to = AdapterName::try_from(name.to_owned())?;
        self.swap_to(Some(to), expected).await
    }

    /// Back to the base model.
    ///
    /// # Errors
    /// Another swap came first, or a full disk.
    pub async fn off(&self, expected: Option<u64>) -> Result<Swapped, AdapterError> {
        self.swap_to(None, expected).await
    }

    async fn swap_to(&self, to: Option<AdapterName>, expected: Option<u64>) -> Result<Swapped, AdapterError> {
        // With the time in the queue: this is what the caller waits.
        let begun = Instant::now();
        let swapped = self.ask(|reply| Command::Swap { to, expected, reply }).await?;
        Ok(Swapped { took: begun.elapsed(), ..swapped })
    }

    /// Forgets an adapter and deletes its file. Answers that run on it finish.
    ///
    /// # Errors
    /// No such adapter, or it is the active one.
    pub async fn remove(&self, name: &str) -> Result<(), AdapterError> {
        let name = AdapterName::try_from(name.to_owned())?;
        self.ask(|reply| Command::Remove { name, reply }).await
    }

    /// What a request that says `name` runs with, and the generation, read in one step: empty is the active adapter,
    /// `none` the base model, else the adapter of that name, loaded when it is not yet. It is the base model, too,
    /// when the active adapter could not be brought back, which the health board then says.
    ///
    /// # Errors
    /// No such adapter, or the model cannot load it.
    pub async fn pin(&self, name: &str) -> Result<Pinned, AdapterError> {
        match name {
            BASE => Ok(self.board.base()),
            "" => {
                let mut pinned = self.board.active();
                pinned.adapter = pinned.adapter.filter(|adapter| !self.is_lost(&adapter.id));
                Ok(pinned)
            }
            _ => {
                let name = AdapterName::try_from(name.to_owned())?;
                let adapter = match self.board.hold_loaded(&name, |id| self.is_loaded(id)) {
                    Some(adapter) => adapter,
                    None => self.ask(|reply| Command::Load { name, reply }).await?,
                };
                Ok(Pinned { generation: adapter.generation, adapter: Some(adapter) })
            }
        }
    }

    /// The same without the generation of the base model.
    ///
    /// # Errors
    /// As [`Self::pin`].
    pub async fn resolve(&self, name: &str) -> Result<Option<ResolvedAdapter>, AdapterError> {
        Ok(self.pin(name).await?.adapter)
    }

    /// Tells how a prompt began, so that the next swap can warm that; none: without a system message.
    pub fn asked(&self, system: Option<&str>) {
        if let Some(system) = system {
            self.heads.asked(system);
        }
    }

    /// Whether the model answers, but without the adapter of this id.
    pub(crate) fn is_lost(&self, id: &str) -> bool {
        let status = self.model.status();
        let status = status.borrow();
        status.state == ModelState::Ready && !status.loaded_adapters.contains(id)
    }

    /// Whether the model answers, and holds the adapter of this id.
    pub(super) fn is_loaded(&self, id: &str) -> bool {
        let status = self.model.status();
        let status = status.borrow();
        status.state == ModelState::Ready && status.loaded_adapters.contains(id)
    }

    pub(super) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, AdapterError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| AdapterError::Unavailable)?;
        answer.await.map_err(|_| AdapterError::Unavailable)?
    }
}
