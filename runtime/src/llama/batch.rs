//! What is decoded at once: tokens, each with the sequence it continues.

use super::{LlamaError, Token, sys};

/// Tokens decoded at once. llama.cpp aborts on more than the context was made for.
pub(crate) const BATCH: usize = 512;

/// One of the sequences of a context, by its number. Another context may have fewer: it is checked where it is
/// used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Sequence(pub(super) u16);

impl Sequence {
    /// Its place among the sequences of its context.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Whether the logits after a token are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logits {
    Wanted,
    Unneeded,
}

/// Where in a batch a token stands whose logits were wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Output(pub(super) usize);

/// A token on its way into the cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) sequence: Sequence,
    pub(super) token: sys::llama_token,
    pub(super) logits: Logits,
}

/// At most [`BATCH`] tokens, or as many as another kind of context was made for. Where they stand in their sequences
/// the context knows.
#[derive(Debug)]
pub(crate) struct Batch {
    entries: Vec<Entry>,
    most: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self::of(BATCH)
    }

    /// Of at most so many tokens.
    pub(crate) fn of(most: usize) -> Self {
        Self { entries: Vec::with_capacity(most), most }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Appends `token` to `sequence`. The tokens of one sequence must not have another's between them, and the
    /// numbers of the sequences should rise: only neighbours are computed together.
    pub(crate) fn push(
        &mut self,
        sequence: Sequence,
        token: Token,
        logits: Logits,
    ) -> Result<Output, LlamaError> {
        let place = self.entries.len();
        if place >= self.most {
            return Err(LlamaError::Batch(place + 1));
        }
        self.entries.push(Entry { sequence, token: token.0, logits });
        Ok(Output(place))
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_an_end() {
        let mut batch = Batch::new();
        for place in 0..BATCH {
            let output = batch.push(Sequence(0), Token(1), Logits::Wanted).unwrap();
            assert_eq!(output, Output(place));
        }
        assert!(matches!(batch.push(Sequence(0), Token(1), Logits::Wanted), Err(LlamaError::Batch(513))));
        batch.clear();
        assert!(batch.entries().is_empty());
    }
}
