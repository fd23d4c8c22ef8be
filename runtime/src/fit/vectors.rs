//! The room that vectors of texts take beside a loaded model: a context of their own, made when it is needed.

use super::{
    Available, Bound, CACHE_NUMBER, CONTEXT_STEP, MemoryEstimate, NUMBER, Size, Unit, cache, per_token,
};
use crate::gguf::ModelHeader;

/// Tokens of a batch that are computed at once where an input can be cut. The library computes the logits of every
/// token beside its vector, so this times the vocabulary is what the buffers are made of.
const PART: u32 = 64;
/// Sequences at once, at most.
const LANES: u32 = 8;
/// The shortest sequence that is made.
const SHORTEST: u32 = CONTEXT_STEP as u32;

/// The shape of a context that makes vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorRoom {
    /// Tokens of each sequence.
    pub tokens: u32,
    /// Sequences.
    pub parallel: u32,
    /// Tokens of a batch.
    pub batch: u32,
}

impl VectorRoom {
    /// For inputs of up to `longest` tokens, at most the `window`. Short inputs are computed side by side, all of
    /// them together in a window; one that has to be `whole` is computed alone.
    pub fn new(longest: u32, window: u32, whole: bool) -> Self {
        let window = window.max(1);
        let tokens = longest.max(SHORTEST).checked_next_power_of_two().unwrap_or(window).min(window);
        if whole {
            return Self { tokens, parallel: 1, batch: tokens };
        }
        Self { tokens, parallel: (window / tokens).clamp(1, LANES), batch: PART.min(tokens) }
    }

    /// Whether inputs of that length fit.
    pub fn takes(&self, longest: u32) -> bool {
        self.tokens >= longest
    }
}

/// There is no room for the context.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("vectors of inputs of {tokens} tokens need about {needs}, and {room} can be had ({bound})", needs = Needs(.estimate), room = Size(.estimate.available))]
pub struct VectorsTooLarge {
    /// Tokens of the longest input that there would have been room for.
    pub tokens: u32,
    /// The numbers; weights are none of them.
    pub estimate: MemoryEstimate,
    /// What bounds the memory.
    pub bound: Bound,
}

/// What the context would take beside what the model takes already.
pub fn estimate_vectors(header: &ModelHeader, room: &VectorRoom) -> MemoryEstimate {
    let (shape, batch) = (&header.shape, u64::from(room.batch));
    let tokens = u64::from(room.tokens).next_multiple_of(CONTEXT_STEP);
    let cache = if header.encoder { 0 } else { cache(shape, tokens, u64::from(room.parallel)) };
    // Of every token of the batch for the whole of its sequence: a float and a half float. Flash attention keeps no scores.
    let mask = tokens.saturating_mul(batch).saturating_mul(NUMBER + CACHE_NUMBER);
    // In the graph and where they are read; an encoder has the latter all the same.
    let logits = shape.vocabulary.saturating_mul(batch).saturating_mul(if header.encoder { 1 } else { 2 });
    let width = header.vector_width.unwrap_or(0).saturating_mul(batch).saturating_mul(2);
    let activations = per_token(shape).saturating_mul(batch);
    let numbers = activations.saturating_add(logits).saturating_add(width);
    let compute = numbers.saturating_mul(NUMBER).saturating_add(mask);
    MemoryEstimate { weights: 0, cache, compute, total: cache.saturating_add(compute), available: 0 }
}

/// The estimate, if it fits.
///
/// # Errors
/// When it would take more than there is.
pub fn check_vectors(
    header: &ModelHeader,
    room: &VectorRoom,
    available: &Available,
) -> Result<MemoryEstimate, VectorsTooLarge> {
    let estimate = MemoryEstimate { available: available.bytes, ..estimate_vectors(header, room) };
    if estimate.total > estimate.available {
        return Err(VectorsTooLarge { tokens: room.tokens, estimate, bound: available.bound });
    }
    Ok(estimate)
}

/// `90.0 MiB (cache 45.0, buffers 45.0)`.
struct Needs<'a>(&'a MemoryEstimate);

impl std::fmt::Display for Needs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(MemoryEstimate { cache, compute, total, .. }) = self;
        let unit = Unit::of(*total);
        let [cache, compute, total] = [cache, compute, total].map(|bytes| unit.count(*bytes));
        write!(f, "{total:.1} {} (cache {cache:.1}, buffers {compute:.1})", unit.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gguf::fixture::GgufFile;
    use crate::gguf::{Header, TensorType};

    fn model(architecture: &str) -> ModelHeader {
        let key = |name: &str| format!("{architecture}.{name}");
        let bytes = GgufFile::default()
            .text("general.architecture", architecture)
            .u32(&key("block_count"), 2)
            .u32(&key("embedding_length"), 512)
            .u32(&key("context_length"), 4096)
            .u32(&key("attention.head_count"), 8)
            .text("tokenizer.ggml.model", "gpt2")
            .texts("tokenizer.ggml.tokens", &["a", "b"])
            .tensor("blk.1.attn_q.weight", &[512, 512], TensorType::Q8_0)
            .bytes();
        ModelHeader::check(&Header::read(bytes.as_slice(), bytes.len() as u64).unwrap()).unwrap()
    }

    #[test]
    fn short_inputs_are_computed_side_by_side_within_one_window() {
        let room = |longest| VectorRoom::new(longest, 2048, false);
        assert_eq!(room(3), VectorRoom { tokens: 256, parallel: 8, batch: 64 });
        assert_eq!(room(257), VectorRoom { tokens: 512, parallel: 4, batch: 64 });
        assert_eq!(room(2048), VectorRoom { tokens: 2048, parallel: 1, batch: 64 });
        assert_eq!(VectorRoom::new(1, 100_000, false).parallel, LANES);
        assert_eq!(VectorRoom::new(40, 48, false), VectorRoom { tokens: 48, parallel: 1, batch: 48 });
    }

    #[test]
    fn an_input_that_has_to_be_whole_is_one_batch() {
        assert_eq!(VectorRoom::new(3, 8192, true), VectorRoom { tokens: 256, parallel: 1, batch: 256 });
        assert_eq!(VectorRoom::new(5000, 6000, true), VectorRoom { tokens: 6000, parallel: 1, batch: 6000 });
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_numbers() {
        let (header, room) = (model("llama"), VectorRoom::new(300, 2048, false));
        let needed = estimate_vectors(&header, &room);
        // Two layers, eight heads of 64 + 64 numbers of two bytes, 512 tokens, four sequences.
        assert_eq!(needed.cache, 2 * 8 * 128 * 2 * 512 * 4);
        let having = |bytes| Available { bytes, bound: Bound::Limit };
        assert!(check_vectors(&header, &room, &having(needed.total)).is_ok());
        let refused = check_vectors(&header, &room, &having(needed.total - 1)).unwrap_err().to_string();
        for said in ["inputs of 512 tokens", "(cache 8.0, buffers ", "can be had (the limit that is set"] {
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn an_encoder_has_no_cache_of_any_kind() {
        let header = model("bert");
        assert_eq!(estimate_vectors(&header, &VectorRoom::new(512, 512, true)).cache, 0);
        let having = Available { bytes: 0, bound: Bound::Machine };
        assert_eq!(crate::fit::estimate(&header, 4096, 8, &having).cache, 0);
    }

    proptest! {
        #[test]
        fn any_input_of_the_window_fits_into_its_room(longest in 1_u32..200_000, window in 1_u32..200_000, whole: bool) {
            let longest = longest.min(window);
            let room = VectorRoom::new(longest, window, whole);
            prop_assert!(room.takes(longest) && room.parallel >= 1 && room.batch >= 1);
            prop_assert!(room.tokens <= window && room.parallel * room.tokens <= window.max(room.tokens));
            prop_assert!(!whole || room.batch >= longest);
        }
    }
}
