//! How the rest of the daemon uses adapters. Uploads and the common case of a request (the active adapter) run in the
//! caller's task; whatever changes something is queued to the one keeper and completed even when the caller leaves.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{mpsc, oneshot, watch};

use super::loaded::Board;
use super::staging::Staged;
use super::{Adapter, AdapterError, AdapterName, AdapterSpec, ResolvedAdapter, Snapshot, Swapped};
use crate::model::{ModelHandle, ModelState};

/// "The base model", where a request names an adapter.
const BASE: &str = "none";

pub(super) type Reply<T> = oneshot::Sender<Result<T, AdapterError>>;

/// What the keeper is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Admit { name: AdapterName, staged: Staged, reply: Reply<Adapter> },
    Swap { to: Option<AdapterName>, expected: Option<u64>, reply: Reply<Swapped> },
    Load { name: AdapterName, reply: Reply<ResolvedAdapter> },
    Remove { name: AdapterName, reply: Reply<()> },
}

/// The adapters of this device. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct AdaptersHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) board: Arc<Board>,
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
        Self { commands, board, model, folder: spec.folder.clone(), max_bytes: spec.max_bytes }
    }

    /// The adapters, and every change of them.
    pub fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.board.subscribe()
    }

    /// Takes an adapter in. `None` in `chunks` is a client that broke off. The same bytes under the same name again
    /// are a success that changes nothing.
    ///
    /// # Errors
    /// A bad name, a file that is empty, too large or no adapter for this model, a name that is taken, or a full disk.
    pub async fn import(
        &self,
        name: &str,
        chunks: impl Stream<Item = Option<Bytes>> + Unpin,
    ) -> Result<Adapter, AdapterError> {
        let name = AdapterName::try_from(name.to_owned())?;
        let staged = Staged::receive(&self.folder, self.max_bytes, chunks).await?;
        self.ask(|reply| Command::Admit { name, staged, reply }).await
    }

    /// Makes `name` answer new requests once it is loaded and warm. With `expected`, only at that generation.
    ///
    /// # Errors
    /// No such adapter, another swap came first, or the model cannot load it; the old one goes on answering.
    pub async fn swap(&self, name: &str, expected: Option<u64>) -> Result<Swapped, AdapterError> {
        let to = Some(AdapterName::try_from(name.to_owned())?);
        self.ask(|reply| Command::Swap { to, expected, reply }).await
    }

    /// Back to the base model.
    ///
    /// # Errors
    /// Another swap came first, or a full disk.
    pub async fn off(&self, expected: Option<u64>) -> Result<Swapped, AdapterError> {
        self.ask(|reply| Command::Swap { to: None, expected, reply }).await
    }

    /// Forgets an adapter and deletes its file. Answers that run on it finish.
    ///
    /// # Errors
    /// No such adapter, or it is the active one.
    pub async fn remove(&self, name: &str) -> Result<(), AdapterError> {
        let name = AdapterName::try_from(name.to_owned())?;
        self.ask(|reply| Command::Remove { name, reply }).await
    }

    /// What a request that says `name` runs with: empty is the active adapter, `none` the base model, else the adapter
    /// of that name, loaded when it is not yet. `None` is the base model; also when the active adapter could not be
    /// brought back, which the health board then says.
    ///
    /// # Errors
    /// No such adapter, or the model cannot load it.
    pub async fn resolve(&self, name: &str) -> Result<Option<ResolvedAdapter>, AdapterError> {
        match name {
            BASE => Ok(None),
            "" => Ok(self.board.active().filter(|adapter| !self.is_lost(&adapter.id))),
            _ => {
                let name = AdapterName::try_from(name.to_owned())?;
                self.ask(|reply| Command::Load { name, reply }).await.map(Some)
            }
        }
    }

    /// Whether the model answers, but without the adapter of this id.
    pub(crate) fn is_lost(&self, id: &str) -> bool {
        let status = self.model.status();
        let status = status.borrow();
        status.state == ModelState::Ready && !status.loaded_adapters.contains(id)
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, AdapterError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| AdapterError::Unavailable)?;
        answer.await.map_err(|_| AdapterError::Unavailable)?
    }
}
