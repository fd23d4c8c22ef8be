//! The engine thread's side of a loaded model: its context and its adapters. Never leaves that thread.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::loaded::{Loaded, ModelFile};
use super::worker::AdapterFile;
use super::{AdapterChoice, EngineError, logits};
use crate::gguf::AdapterHeader;
use crate::llama::{Adapter, Context, Ends, Parse};

/// Adapters held in memory at once; each is some megabytes.
const MOST_ADAPTERS: usize = 64;
/// A few ordinary words: enough for every layer of an adapter to take part.
const CANARY: &str = "The quick brown fox";

/// A loaded model with its context and adapters.
pub(super) struct Session {
    pub(super) loaded: Arc<Loaded>,
    pub(super) context: Context,
    adapters: HashMap<String, (Rc<Adapter>, AdapterHeader)>,
}

impl Session {
    pub(super) fn load(file: ModelFile) -> Result<Self, EngineError> {
        let (loaded, context) = Loaded::load(file)?;
        Ok(Self { loaded, context, adapters: HashMap::new() })
    }

    /// Loads an adapter and tries it. One that makes the model compute nonsense is let go again.
    pub(super) fn load_adapter(
        &mut self,
        id: String,
        file: &AdapterFile,
    ) -> Result<AdapterHeader, EngineError> {
        if !Arc::ptr_eq(&file.loaded, &self.loaded) {
            return Err(EngineError::ModelReplaced);
        }
        if let Some((_, header)) = self.adapters.get(&id) {
            return Ok(header.clone());
        }
        if self.adapters.len() >= MOST_ADAPTERS {
            return Err(EngineError::TooManyAdapters(MOST_ADAPTERS));
        }
        let adapter =
            Adapter::load(&self.loaded.model, &file.open.alias()).map_err(EngineError::AdapterRefused)?;
        self.context.set_adapter(Some((Rc::clone(&adapter), 1.0)))?;
        let canary = self.loaded.model.tokenize(CANARY, Parse::Plain, Ends::Add)?;
        let finite = logits::are_finite_after(&mut self.context, &canary);
        self.context.set_adapter(None)?;
        if !finite? {
            return Err(EngineError::AdapterNotFinite);
        }
        self.adapters.insert(id, (adapter, file.header.clone()));
        Ok(file.header.clone())
    }

    pub(super) fn unload_adapter(&mut self, id: &str) -> Result<(), EngineError> {
        if self.adapters.remove(id).is_none() {
            return Err(EngineError::AdapterUnknown(id.to_owned()));
        }
        // The context may hold it from the last request; let it go now, not at the next one.
        self.context.set_adapter(None)?;
        Ok(())
    }

    /// Clears the sequence and sets the adapter a request wants.
    pub(super) fn prepare(&mut self, choice: Option<&AdapterChoice>) -> Result<(), EngineError> {
        let adapter = match choice {
            None => None,
            Some(choice) => match self.adapters.get(&choice.id) {
                Some((adapter, _)) => Some((Rc::clone(adapter), choice.scale)),
                None => return Err(EngineError::AdapterUnknown(choice.id.clone())),
            },
        };
        Ok(self.context.set_adapter(adapter)?)
    }
}
