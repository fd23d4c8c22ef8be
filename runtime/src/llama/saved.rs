//! A sequence's keys and values as bytes, outside of the cache.

use super::batch::Sequence;
use super::{Context, sys};

/// What a sequence had computed, to be put back into any sequence of the same context.
pub(crate) struct SavedSequence {
    bytes: Vec<u8>,
    tokens: usize,
}

impl SavedSequence {
    /// Memory it takes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl Context {
    /// Copies a sequence out of the cache. `None` when it is empty, or the library cannot.
    pub(crate) fn save(&mut self, sequence: Sequence) -> Option<SavedSequence> {
        let tokens = self.length(sequence);
        if tokens == 0 || !self.has(sequence) {
            return None;
        }
        let number = sys::llama_seq_id::from(sequence.0);
        // SAFETY: the context is alive and has that sequence.
        let size = unsafe { sys::llama_state_seq_get_size(self.raw(), number) };
        let mut bytes = Vec::new();
        // Not infallible: it may be hundreds of megabytes.
        bytes.try_reserve_exact(size).ok()?;
        // SAFETY: as above; the buffer has room for `size` bytes, and the library writes at most that many.
        let written = unsafe { sys::llama_state_seq_get_data(self.raw(), bytes.as_mut_ptr(), size, number) };
        if written == 0 || written > size {
            return None;
        }
        // SAFETY: the library wrote that many bytes, which is within the capacity.
        unsafe { bytes.set_len(written) };
        Some(SavedSequence { bytes, tokens })
    }

    /// Puts a saved sequence in the place of `sequence`. When the library refuses, the sequence is empty.
    pub(crate) fn restore(&mut self, sequence: Sequence, saved: &SavedSequence) -> bool {
        self.truncate(sequence, 0);
        if !self.has(sequence) {
            return false;
        }
        let number = sys::llama_seq_id::from(sequence.0);
        // SAFETY: the context is alive and has that sequence; the bytes are what this library wrote for a
        // sequence of a context of this kind, in full.
        let read = unsafe {
            sys::llama_state_seq_set_data(self.raw(), saved.bytes.as_ptr(), saved.bytes.len(), number)
        };
        let restored = read == saved.bytes.len();
        // Also of a part that was read: it is removed again.
        self.set_length(sequence, saved.tokens);
        if !restored {
            self.truncate(sequence, 0);
        }
        restored
    }
}
