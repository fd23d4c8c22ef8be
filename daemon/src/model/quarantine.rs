//! What kills the model process is not tried for ever: a model, or a model with an adapter, that ended it twice in a
//! row is left alone from then on, across restarts of the daemon, until somebody asks for it by name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::durable;

/// Deaths in a row, while loading the same thing, after which it is not tried again.
const DEADLY: u32 = 2;
const SCHEMA: &str = "synesis.quarantine/1";

/// A model, and an adapter on it; an empty adapter is the model alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    model: String,
    adapter: String,
}

/// The pairs that are left alone. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Quarantine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// None: they are forgotten with the process.
    file: Option<PathBuf>,
    state: SyncMutex<State>,
    /// One write at a time, and the newest state last.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    deaths: BTreeMap<Pair, u32>,
    /// With the reason.
    kept: BTreeMap<Pair, String>,
}

/// The file's shape.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    schema: String,
    pairs: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    pair: Pair,
    reason: String,
}

impl Quarantine {
    /// What `file` remembers. One that cannot be read is as good as none: the worst is two more tries.
    pub(super) fn open(file: Option<PathBuf>) -> Self {
        let kept = file.as_deref().map(read).unwrap_or_default();
        let state = SyncMutex::new(State { deaths: BTreeMap::new(), kept });
        Self { shared: Arc::new(Shared { file, state, writing: Mutex::new(()) }) }
    }

    /// Why this is left alone, when it is.
    pub(super) fn reason(&self, model: &str, adapter: &str) -> Option<String> {
        self.state().kept.get(&pair(model, adapter)).cloned()
    }

    /// Loading this ended the process, `what` in words. Returns the reason once it is left alone.
    pub(super) async fn died(&self, model: &str, adapter: &str, what: &str) -> Option<String> {
        let reason = {
            let mut state = self.state();
            let pair = pair(model, adapter);
            let deaths = state.deaths.entry(pair.clone()).or_insert(0);
            *deaths += 1;
            if *deaths < DEADLY {
                return None;
            }
            let reason = format!("loading {what} ended the model process {DEADLY} times in a row");
            state.kept.insert(pair, reason.clone());
            reason
        };
        self.save().await;
        Some(reason)
    }

    /// It was loaded and nothing happened.
    pub(super) fn survived(&self, model: &str, adapter: &str) {
        self.state().deaths.remove(&pair(model, adapter));
    }

    /// Somebody asks for this model by name: it and every adapter on it have two tries again.
    pub(super) async fn lift_model(&self, model: &str) {
        self.lift(|pair| pair.model == model).await;
    }

    /// Somebody asks for this adapter by name.
    pub(super) async fn lift_adapter(&self, adapter: &str) {
        self.lift(|pair| pair.adapter == adapter).await;
    }

    async fn lift(&self, lifted: impl Fn(&Pair) -> bool) {
        let changed = {
            let mut state = self.state();
            let before = state.kept.len();
            state.deaths.retain(|pair, _| !lifted(pair));
            state.kept.retain(|pair, _| !lifted(pair));
            state.kept.len() != before
        };
        if changed {
            self.save().await;
        }
    }

    async fn save(&self) {
        let Some(file) = self.shared.file.clone() else { return };
        let _turn = self.shared.writing.lock().await;
        let rows = self
            .state()
            .kept
            .iter()
            .map(|(pair, reason)| Row { pair: pair.clone(), reason: reason.clone() })
            .collect();
        let stored = Stored { schema: SCHEMA.to_owned(), pairs: rows };
        let written = tokio::task::spawn_blocking(move || {
            durable::replace(&file, &serde_json::to_vec_pretty(&stored)?)
        });
        if let Err(error) = written.await.map_err(io::Error::other).and_then(|written| written) {
            tracing::warn!(%error, "the quarantine is not on the disk; it is forgotten at the next start");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pair(model: &str, adapter: &str) -> Pair {
    Pair { model: model.to_owned(), adapter: adapter.to_owned() }
}

fn read(file: &Path) -> BTreeMap<Pair, String> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
        Err(error) => {
            tracing::warn!(%error, file = %file.display(), "the quarantine cannot be read");
            return BTreeMap::new();
        }
    };
    match serde_json::from_slice::<Stored>(&bytes) {
        Ok(stored) if stored.schema == SCHEMA => {
            stored.pairs.into_iter().map(|row| (row.pair, row.reason)).collect()
        }
        Ok(stored) => {
            tracing::warn!(schema = stored.schema, "the quarantine is of another version and is ignored");
            BTreeMap::new()
        }
        Err(error) => {
            tracing::warn!(%error, file = %file.display(), "the quarantine makes no sense and is ignored");
            BTreeMap::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_kills_twice_in_a_row_is_left_alone_across_restarts_until_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("quarantine.json");
        let quarantine = Quarantine::open(Some(file.clone()));
        assert_eq!(quarantine.died("m", "a", "it").await, None);
        quarantine.survived("m", "a");
        assert_eq!(quarantine.died("m", "a", "it").await, None, "not in a row");
        assert!(quarantine.died("m", "a", "it").await.unwrap().contains("2 times in a row"));
        assert_eq!(quarantine.reason("m", ""), None, "the model alone is innocent");

        let after = Quarantine::open(Some(file.clone()));
        assert!(after.reason("m", "a").is_some());
        assert_eq!(after.reason("n", "a"), None, "on another model it has its own chance");
        after.lift_adapter("a").await;
        assert_eq!(Quarantine::open(Some(file)).reason("m", "a"), None);
    }

    #[tokio::test]
    async fn lifting_a_model_lifts_its_adapters_and_no_other_models() {
        let quarantine = Quarantine::open(None);
        for (model, adapter) in [("m", ""), ("m", "a"), ("n", "")] {
            quarantine.died(model, adapter, "it").await;
            quarantine.died(model, adapter, "it").await;
        }
        quarantine.lift_model("m").await;
        let left = [("m", ""), ("m", "a"), ("n", "")].map(|(m, a)| quarantine.reason(m, a).is_some());
        assert_eq!(left, [false, false, true]);
    }

    #[tokio::test]
    async fn a_file_that_makes_no_sense_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("quarantine.json");
        for text in ["", "{", "{\"schema\":\"other/1\",\"pairs\":[]}", "[]"] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(Quarantine::open(Some(file.clone())).reason("m", ""), None, "{text:?}");
        }
    }
}
