//! The adapters in one model process: loaded when a request names them, kept while one uses them and for a while after.
//! The process checks each file as a device's does, before it believes any of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use synesis_proto::runtime::v1;
use synesis_proto::runtime::v1::runtime_client::RuntimeClient;
use synesis_proto::{Problem, reason};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Channel;

use super::{IDLE, refusal};
use crate::providers::error::bounded_words;
use crate::providers::{AdapterFile, AdapterPin, ProviderError};

/// Adapters that stay in memory; each takes some megabytes.
const MOST: usize = 16;
/// A file that ended the process so often while it was loaded is not tried again.
const STRIKES: u8 = 2;

/// The adapters of one process.
#[derive(Default)]
pub(super) struct Adapters {
    /// Least recently used first.
    loaded: AsyncMutex<Vec<Entry>>,
}

struct Entry {
    id: String,
    held: Arc<()>,
    /// False while it is loaded, and when that was given up half way: then nobody knows whether the process has it.
    is_loaded: bool,
}

impl Entry {
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.held) == 1
    }
}

/// Files that ended a process while it loaded them, by id. Outlives the processes.
#[derive(Default)]
pub(super) struct Strikes(Mutex<HashMap<String, u8>>);

impl Strikes {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_out(&self, id: &str) -> bool {
        self.lock().get(id).is_some_and(|strikes| *strikes >= STRIKES)
    }

    fn add(&self, id: &str) {
        let mut strikes = self.lock();
        let count = strikes.entry(id.to_owned()).or_default();
        *count = count.saturating_add(1);
    }
}

impl Adapters {
    /// Loads the adapter unless it is there, and keeps it for as long as the pin lives.
    pub(super) async fn pin(
        &self,
        client: &mut RuntimeClient<Channel>,
        strikes: &Strikes,
        file: &AdapterFile,
    ) -> Result<AdapterPin, ProviderError> {
        let mut loaded = self.loaded.lock().await;
        let known = loaded.iter().position(|entry| entry.id == file.id);
        let entry = match known.map(|at| loaded.remove(at)) {
            Some(entry) => entry,
            None => {
                make_room(client, &mut loaded).await?;
                Entry { id: file.id.clone(), held: Arc::default(), is_loaded: false }
            }
        };
        let (pin, is_loaded) =
            (AdapterPin { id: entry.id.clone(), _held: Arc::clone(&entry.held) }, entry.is_loaded);
        loaded.push(entry);
        if !is_loaded {
            let outcome = load(client, strikes, file).await;
            match (outcome, loaded.last_mut()) {
                (Ok(()), Some(entry)) => entry.is_loaded = true,
                (outcome, _) => {
                    loaded.pop();
                    outcome?;
                }
            }
        }
        Ok(pin)
    }
}

/// Lets the least recently used idle adapter go when there are enough.
async fn make_room(
    client: &mut RuntimeClient<Channel>,
    loaded: &mut Vec<Entry>,
) -> Result<(), ProviderError> {
    if loaded.len() < MOST {
        return Ok(());
    }
    let Some(at) = loaded.iter().position(Entry::is_idle) else {
        let message = format!("{MOST} adapters are in use");
        return Err(ProviderError::Busy { message, retry_after: None });
    };
    let id = loaded.remove(at).id;
    let unloaded = timeout(IDLE, client.unload_adapter(v1::UnloadAdapterRequest { id })).await;
    match unloaded.map_err(|_| ProviderError::Silent { waited: IDLE })? {
        Ok(_) => Ok(()),
        // It was not there: its loading was given up half way.
        Err(status) if Problem::from_status(&status).reason == reason::ADAPTER_NOT_FOUND => Ok(()),
        Err(status) => Err(refusal(&status)),
    }
}

async fn load(
    client: &mut RuntimeClient<Channel>,
    strikes: &Strikes,
    file: &AdapterFile,
) -> Result<(), ProviderError> {
    if strikes.is_out(&file.id) {
        return Err(ProviderError::Unfit { message: "loading it ended the model process".to_owned() });
    }
    let path = file.path.to_string_lossy().into_owned();
    let request = v1::LoadAdapterRequest { id: file.id.clone(), path };
    match timeout(IDLE, client.load_adapter(request)).await {
        Err(_) => Err(ProviderError::Silent { waited: IDLE }),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(not_loaded(&status, strikes, file)),
    }
}

fn not_loaded(status: &Status, strikes: &Strikes, file: &AdapterFile) -> ProviderError {
    let problem = Problem::from_status(status);
    match problem.reason.as_str() {
        reason::ADAPTER_INVALID => ProviderError::Unfit { message: bounded_words(&problem.message, None) },
        // The status was made by the end of the process.
        "" => {
            strikes.add(&file.id);
            tracing::error!(adapter = %file.id, "the model process ended while it was loading an adapter");
            refusal(status)
        }
        _ => refusal(status),
    }
}
