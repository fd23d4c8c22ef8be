//! LoRA adapters on this device: content-addressed files, an index beside them, and which one answers. Requests in
//! flight finish on the adapter they started with; a swap takes effect once the new one is loaded and warm.

mod adapter;
mod error;
mod fit;
mod handle;
mod heads;
mod import;
mod index;
mod keeper;
mod loaded;
mod name;
mod room;
mod staging;
mod upload;
mod warm;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use adapter::{Adapter, Format, Listed, Origin};
pub use error::AdapterError;
pub use handle::AdaptersHandle;
pub use import::Import;
pub use index::Index;
pub use keeper::AdapterKeeper;
pub use loaded::Lease;
pub use name::AdapterName;
pub use room::Full;
pub use upload::{Part, Piece};

use crate::config::{Adapters as Config, WhenFull};

/// The adapters as they are now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// By name.
    pub adapters: Vec<Adapter>,
    /// Counts swaps, across restarts. 0: there never was one.
    pub generation: u64,
    /// The one that answers requests that name none; none: the base model.
    pub active: Option<AdapterName>,
}

impl Snapshot {
    /// The adapter called `name`.
    pub fn find(&self, name: &AdapterName) -> Option<&Adapter> {
        self.adapters.iter().find(|adapter| adapter.name == *name)
    }

    /// The active adapter.
    pub fn active(&self) -> Option<&Adapter> {
        self.active.as_ref().and_then(|name| self.find(name))
    }

    /// Whether some name means the file with this id.
    pub fn has_file(&self, id: &str) -> bool {
        self.adapters.iter().any(|adapter| adapter.id == id)
    }
}

/// What a request runs with: pinned, whatever is swapped in meanwhile.
#[derive(Debug, Clone)]
pub struct ResolvedAdapter {
    /// What users call it.
    pub name: String,
    /// For `GenerateRequest.adapter_id`.
    pub id: String,
    /// The generation at which it was resolved.
    pub generation: u64,
    /// Keeps it loaded.
    _lease: Arc<Lease>,
}

/// What a request runs with, the base model included: adapter and generation were read in one step.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// None: the base model.
    pub adapter: Option<ResolvedAdapter>,
    /// At which it was pinned.
    pub generation: u64,
}

/// What a swap did.
#[derive(Debug, Clone, PartialEq)]
pub struct Swapped {
    /// Now active; none: the base model.
    pub active: Option<AdapterName>,
    /// After the swap.
    pub generation: u64,
    /// Active before; none: the base model.
    pub previous: Option<AdapterName>,
    /// How ready it was.
    pub heat: Heat,
    /// From the request to the first prompt that would use it.
    pub took: Duration,
}

/// How ready an adapter was for the prompts that come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heat {
    /// Loaded, with the beginnings of the usual prompts computed.
    Hot,
    /// It had to be loaded or warmed.
    Cold,
}

/// Where adapters are kept, and how many and how big they may be.
#[derive(Debug, Clone)]
pub struct AdapterSpec {
    /// The folder; private to the daemon.
    pub folder: PathBuf,
    /// Largest file that is taken in, in bytes.
    pub max_bytes: u64,
    /// Most that all files may take, in bytes.
    pub max_total_bytes: u64,
    /// What happens to an import beyond that.
    pub when_full: WhenFull,
    /// Adapters that stay in the model's memory although nobody uses them.
    pub max_loaded: usize,
}

impl AdapterSpec {
    /// As configured, in `folder`.
    pub fn new(folder: PathBuf, config: &Config) -> Self {
        Self {
            folder,
            max_bytes: config.max_bytes,
            max_total_bytes: config.max_total_bytes,
            when_full: config.when_full,
            max_loaded: config.max_loaded as usize,
        }
    }
}

#[cfg(test)]
mod tests;
