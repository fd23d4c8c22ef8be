//! Model files on this device: content-addressed, with an index beside them; where they come from, how they get here
//! whole or not at all, and which one answers.

mod catalogue;
pub(crate) mod digest;
mod download;
mod error;
mod handle;
mod hub;
mod index;
mod intake;
mod loading;
mod name;
mod part;
mod pull;
mod remote;
mod room;
mod source;
mod token;

use std::path::PathBuf;
use std::time::SystemTime;

pub use catalogue::{CATALOGUE, Entry, Offer};
pub use error::ModelsError;
pub use handle::{Listed, ModelsHandle, Store};
pub use hub::ChoiceError;
pub use index::Index;
pub use name::ModelName;
pub use pull::{Phase, PullProgress, PullRequest, Upload};
pub use remote::RemoteError;
pub use room::NoRoom;
pub use source::{Source, SourceError};

use crate::config::Config;

/// One model file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// What users call it.
    pub name: ModelName,
    /// Of the file, hex.
    pub sha256: String,
    /// Of the file, in bytes.
    pub size_bytes: u64,
    /// Where it came from, in words: a repository's file with its commit, an address, or "a file of the caller".
    pub source: String,
    /// When it was taken in.
    pub pulled_at: SystemTime,
    /// Such as `llama`; empty when it was too large to be looked at.
    pub architecture: String,
    /// What its context was trained for, in tokens; 0: not known.
    pub trained_context_tokens: u32,
    /// Whether every weight was read once and made sense; else the first load does it.
    pub checked: bool,
}

/// The models as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// By name.
    pub models: Vec<Model>,
    /// The one that is loaded at the start; none: the one of the configuration.
    pub selected: Option<ModelName>,
}

impl Snapshot {
    /// The model called `name`.
    pub fn find(&self, name: &ModelName) -> Option<&Model> {
        self.models.iter().find(|model| model.name == *name)
    }

    /// Bytes of all files; two names of one file count once.
    fn bytes(&self) -> u64 {
        let files: std::collections::BTreeMap<&str, u64> =
            self.models.iter().map(|model| (model.sha256.as_str(), model.size_bytes)).collect();
        files.values().fold(0, |sum, size| sum.saturating_add(*size))
    }
}

/// Where models are kept and come from.
#[derive(Debug, Clone)]
pub struct StoreSpec {
    /// The folder; private to the daemon.
    pub folder: PathBuf,
    /// Most that all of them may take, in bytes; 0: no limit.
    pub max_bytes: u64,
    /// The hub's address, without a slash at the end.
    pub hub: String,
    /// A file with the hub's access token; none: public repositories only.
    pub token_file: Option<PathBuf>,
}

impl StoreSpec {
    /// As configured; what is not comes from `HF_ENDPOINT` and from the service's credentials.
    pub fn new(config: &Config, folder: PathBuf) -> Self {
        let configured = config.model.hf_endpoint.as_ref().map(|url| url.as_str().to_owned());
        let environment = || std::env::var("HF_ENDPOINT").ok().filter(|url| !url.is_empty());
        let hub = configured.or_else(environment).unwrap_or_else(|| source::PUBLIC_HUB.to_owned());
        let credential = || {
            let file = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join("hf-token");
            file.is_file().then_some(file)
        };
        let token_file = config.model.hf_token_file.as_deref().map(PathBuf::from).or_else(credential);
        Self {
            folder,
            max_bytes: config.model.store_max_bytes,
            hub: hub.trim_end_matches('/').to_owned(),
            token_file,
        }
    }
}
