//! A model's vocabulary as a trie of bytes, which every constraint of that model shares.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};

use super::ConstraintError;

/// States of the lexer, one or two kilobytes each.
const LEXER_STATES: usize = 50_000;
/// Symbols of a grammar; the 64 KiB of text that are accepted have fewer unless they multiply.
const GRAMMAR_SYMBOLS: usize = 100_000;

/// Built once per model, on first use: it takes some hundred milliseconds for a large vocabulary.
pub(crate) struct Vocabulary {
    factory: ParserFactory,
}

impl Vocabulary {
    /// `tokens` are in the order of their numbers: the bytes a token stands for, or the text of a control token
    /// (`<|im_end|>`), and whether it is one. A control token is never an answer's text; a grammar can only ask
    /// for it by name. `ends` are the tokens that end the model's turn.
    ///
    /// # Errors
    /// When there are no tokens, or none that ends a turn.
    pub(crate) fn new(
        tokens: impl IntoIterator<Item = (Vec<u8>, bool)>,
        ends: &[u32],
    ) -> Result<Arc<Self>, ConstraintError> {
        let refused = |why: &str| ConstraintError::Vocabulary(why.to_owned());
        let words: Vec<Vec<u8>> = tokens.into_iter().map(word).collect();
        let size = u32::try_from(words.len()).map_err(|_| refused("it is too large"))?;
        let Some(&first_end) = ends.first() else { return Err(refused("no token ends a turn")) };
        if ends.iter().any(|end| *end >= size) {
            return Err(refused("an end token lies outside of it"));
        }
        // The crate asserts what it expects of a vocabulary.
        let built = catch_unwind(AssertUnwindSafe(|| {
            let trie = TokTrie::from(&TokRxInfo::new(size, first_end), &words).with_eos_tokens(ends);
            // Tokens are forced by the mask only, never by tokenising a forced text, so a greedy tokenizer is
            // enough.
            let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            ParserFactory::new(
                &environment,
                InferenceCapabilities::default(),
                &SlicedBiasComputer::general_slices(),
            )
        }));
        let mut factory = built
            .map_err(|_| refused("the compiler failed on it"))?
            .map_err(|error| ConstraintError::Vocabulary(error.to_string()))?;
        // It would write to standard error.
        factory.quiet();
        let limits = factory.limits_mut();
        limits.max_lexer_states = LEXER_STATES;
        limits.max_grammar_size = GRAMMAR_SYMBOLS;
        // An error would quote the grammar and the answer.
        limits.verbose_errors = false;
        Ok(Arc::new(Self { factory }))
    }

    pub(super) fn factory(&self) -> &ParserFactory {
        &self.factory
    }
}

/// A control token is marked by a byte that no text has. A plain token that begins with this byte (a
/// vocabulary may have one for every byte) must not look like one: it is left out, as is a token of no bytes.
fn word((bytes, is_control): (Vec<u8>, bool)) -> Vec<u8> {
    let is_marked = bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER);
    match (is_control, is_marked) {
        (true, false) if !bytes.is_empty() => [vec![TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat(),
        (false, false) => bytes,
        _ => Vec::new(),
    }
}
