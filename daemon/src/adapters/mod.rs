//! LoRA adapters on this device: content-addressed files, an index beside them, and which one answers. Requests in
//! flight finish on the adapter they started with; a swap takes effect once the new one is loaded and warm.

mod error;
mod handle;
mod index;
mod keeper;
mod loaded;
mod name;
mod staging;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use error::AdapterError;
pub use handle::AdaptersHandle;
pub use index::Index;
pub use keeper::AdapterKeeper;
pub use loaded::Lease;
pub use name::AdapterName;

/// One imported adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// What users call it.
    pub name: AdapterName,
    /// sha256 of the file, hex; the model process knows it by this.
    pub id: String,
    /// Size of the file, in bytes.
    pub size_bytes: u64,
    /// Rank of the update matrices.
    pub rank: u32,
    /// Scale numerator.
    pub alpha: f32,
    /// Architecture of the base model it was made for.
    pub architecture: String,
    /// What it changes, such as `attn_q`.
    pub targets: Vec<String>,
    /// When it was taken in.
    pub imported_at: SystemTime,
}

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

/// What a swap did.
#[derive(Debug, Clone, PartialEq)]
pub struct Swapped {
    /// Now active; none: the base model.
    pub active: Option<AdapterName>,
    /// After the swap.
    pub generation: u64,
    /// Active before; none: the base model.
    pub previous: Option<AdapterName>,
    /// From the request to the first prompt that would use it.
    pub took: Duration,
}

/// Where adapters are kept, and how big one may be.
#[derive(Debug, Clone)]
pub struct AdapterSpec {
    /// The folder; private to the daemon.
    pub folder: PathBuf,
    /// Largest file that is taken in, in bytes.
    pub max_bytes: u64,
}

#[cfg(test)]
mod tests;
