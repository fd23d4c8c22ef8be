//! The adapters of a session: loading with a canary, and letting go.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::Session;
use crate::engine::EngineError;
use crate::engine::job::AdapterFile;
use crate::gguf::AdapterHeader;
use crate::llama::{Adapter, Ends, Parse};

/// Adapters held in memory at once; each is some megabytes.
const MOST_ADAPTERS: usize = 64;
/// A few ordinary words: enough for every layer of an adapter to take part.
const CANARY: &str = "The quick brown fox";

/// Loaded adapters by id.
#[derive(Default)]
pub(super) struct Adapters {
    loaded: HashMap<String, (Rc<Adapter>, AdapterHeader)>,
}

impl Adapters {
    pub(super) fn has(&self, id: &str) -> bool {
        self.loaded.contains_key(id)
    }

    pub(super) fn weights(&self, id: &str) -> Result<Rc<Adapter>, EngineError> {
        let found = self.loaded.get(id).map(|(adapter, _)| Rc::clone(adapter));
        found.ok_or_else(|| EngineError::AdapterUnknown(id.to_owned()))
    }
}

impl Session {
    /// Loads an adapter and tries it. One that makes the model compute nonsense is let go again. The others wait
    /// for the file to be read and for one short batch.
    pub(in crate::engine) fn load_adapter(
        &mut self,
        id: String,
        file: &AdapterFile,
    ) -> Result<AdapterHeader, EngineError> {
        if !Arc::ptr_eq(&file.loaded, &self.loaded) {
            return Err(EngineError::ModelReplaced);
        }
        if let Some((_, header)) = self.adapters.loaded.get(&id) {
            return Ok(header.clone());
        }
        if self.adapters.loaded.len() >= MOST_ADAPTERS {
            return Err(EngineError::TooManyAdapters(MOST_ADAPTERS));
        }
        let adapter =
            Adapter::load(&self.loaded.model, &file.open.alias()).map_err(EngineError::AdapterRefused)?;
        if !self.try_adapter(&adapter)? {
            return Err(EngineError::AdapterNotFinite);
        }
        self.adapters.loaded.insert(id, (adapter, file.header.clone()));
        Ok(file.header.clone())
    }

    /// Borrows the sequence that has least to lose, and gives it back as it was.
    fn try_adapter(&mut self, adapter: &Rc<Adapter>) -> Result<bool, EngineError> {
        let canary = self.loaded.model.tokenize(CANARY, Parse::Plain, Ends::Add)?;
        let least = |place: &usize| {
            let slot = &self.slots[*place];
            (slot.work.is_some(), slot.tokens.len())
        };
        let place = (0..self.slots.len()).min_by_key(least).ok_or(EngineError::Stopped)?;
        let sequence = self.slots[place].sequence;
        let kept = self.context.save(sequence);
        self.context.set_adapter(Some((adapter, 1.0)))?;
        let outcome = self.is_finite_after(sequence, &canary);
        // The next step sets what it needs; until then a refused adapter must not stay.
        self.context.set_adapter(None)?;
        if let Some(kept) = kept {
            self.context.restore(sequence, &kept);
        }
        let length = self.context.length(sequence);
        if length != self.slots[place].tokens.len() {
            self.slots[place].tokens.truncate(length);
            if self.slots[place].work.is_some() {
                self.fail(place, crate::llama::LlamaError::State.into());
            }
        }
        Ok(outcome?)
    }

    /// Forgets an adapter and what was computed with it. Requests that use it keep it to their end.
    pub(in crate::engine) fn unload_adapter(&mut self, id: &str) -> Result<(), EngineError> {
        if self.adapters.loaded.remove(id).is_none() {
            return Err(EngineError::AdapterUnknown(id.to_owned()));
        }
        self.saved.forget_adapter(id);
        let mut in_use = false;
        for slot in &mut self.slots {
            let is_concerned = slot.variant.has_adapter(id);
            in_use |= is_concerned && slot.work.is_some();
            if is_concerned && slot.work.is_none() {
                self.context.truncate(slot.sequence, 0);
                slot.tokens.clear();
            }
        }
        if !in_use {
            // The context may hold it from the last batch; let it go now, not at the next one.
            self.context.set_adapter(None)?;
        }
        Ok(())
    }
}
