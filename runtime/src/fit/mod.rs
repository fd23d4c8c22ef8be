//! Does a model fit into memory? Judged from its checked header alone, before llama.cpp maps a byte of it.
//!
//! The estimate is of the memory that is touched, from above: weights as the file has them, the cache of keys
//! and values of all sequences, the buffers of one batch, and what a vocabulary takes. A test holds it against
//! the resident set of two loaded models.

mod available;
mod vectors;

use std::fmt;

use crate::gguf::{ModelHeader, Shape};
pub use available::{Available, available, effective_limit, set_ceiling};
pub use vectors::{VectorRoom, VectorsTooLarge, check_vectors, estimate_vectors};

/// Tokens that are computed at once, all sequences together (the engine's batch).
const BATCH: u64 = 512;
/// The window when nobody says otherwise: enough for a conversation.
const DEFAULT_CONTEXT: u32 = 2048;
/// The largest window that is made, whatever a file promises.
const CONTEXT_LIMIT: u32 = 131_072;
/// llama.cpp makes a sequence's window a multiple of this.
const CONTEXT_STEP: u64 = 256;
/// Keys and values are 16-bit floats.
const CACHE_NUMBER: u64 = 2;
/// Activations and logits are 32-bit floats.
const NUMBER: u64 = 4;
/// A token of the vocabulary in llama.cpp's tables: its text twice, a score, its place in two maps, and its
/// share of the merges.
const TOKEN_ENTRY: u64 = 256;
/// Stacks of the blocking pool and of the library's threads, eight megabytes of addresses each.
const STACKS: u64 = 512 << 20;
/// The process itself, the library's graph, and the allocator's slack.
const PROCESS: u64 = 40 << 20;

/// Bytes a model would take, and bytes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// Of the tensors.
    pub weights: u64,
    /// Keys and values of all sequences.
    pub cache: u64,
    /// Buffers of the graph, logits, vocabulary and the process itself.
    pub compute: u64,
    /// All of it.
    pub total: u64,
    /// What may be used; see [`available`].
    pub available: u64,
}

/// The model would not fit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the model needs about {needs}, and {room} can be had ({bound})", needs = Needs(.estimate), room = Size(.estimate.available))]
pub struct TooLarge {
    /// The numbers.
    pub estimate: MemoryEstimate,
    /// What bounds the memory.
    pub bound: Bound,
}

impl TooLarge {
    /// What to do about it, for people.
    pub const NEXT_STEP: &'static str =
        "use a smaller context, fewer parallel sequences, or a smaller model or quantisation";
}

/// What bounds the memory that can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// What the machine has free.
    Machine,
    /// What the control group leaves.
    Cgroup,
    /// The limit the caller set.
    Limit,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "what the machine has free",
            Self::Cgroup => "what the control group leaves",
            Self::Limit => "the limit that is set for the model process",
        })
    }
}

/// The window of one sequence in tokens: what was asked for (0: 2048), but not more than the model was trained
/// for.
pub fn context_tokens(wanted: u32, trained: u32) -> u32 {
    let wanted = if wanted == 0 { DEFAULT_CONTEXT } else { wanted };
    wanted.min(trained).min(CONTEXT_LIMIT)
}

/// What the model would take with `parallel` sequences (0: 1) of `context` tokens, whatever there is.
pub fn estimate(header: &ModelHeader, context: u32, parallel: u32, available: &Available) -> MemoryEstimate {
    let weights = header.tensors.values().fold(0_u64, |sum, tensor| sum.saturating_add(tensor.bytes));
    let context = u64::from(context).next_multiple_of(CONTEXT_STEP);
    let parallel = u64::from(parallel.max(1));
    let (cache, compute) = if header.encoder {
        // It answers nothing, so there are no sequences; this much is there from the first text on.
        let least = estimate_vectors(header, &VectorRoom::new(1, u32::MAX, header.whole));
        (0, least.compute.saturating_add(constant(&header.shape)))
    } else {
        (cache(&header.shape, context, parallel), compute(&header.shape, context, parallel))
    };
    MemoryEstimate {
        weights,
        cache,
        compute,
        total: weights.saturating_add(cache).saturating_add(compute),
        available: available.bytes,
    }
}

/// The estimate, if the model fits.
///
/// # Errors
/// When it would take more than there is.
pub fn check(
    header: &ModelHeader,
    context: u32,
    parallel: u32,
    available: &Available,
) -> Result<MemoryEstimate, TooLarge> {
    let estimate = estimate(header, context, parallel, available);
    if estimate.total > estimate.available {
        return Err(TooLarge { estimate, bound: available.bound });
    }
    Ok(estimate)
}

/// What a limit of `bytes` allows the process to write to in all, for [`crate::sandbox::limit_memory`]. Two things
/// are reserved and hardly ever touched, so they come on top: the logits of a batch in which every token has
/// some, and the stacks of threads.
pub fn data_limit(header: &ModelHeader, bytes: u64) -> u64 {
    let logits = header.shape.vocabulary.saturating_mul(BATCH).saturating_mul(NUMBER);
    bytes.saturating_add(logits).saturating_add(STACKS)
}

/// Every layer keeps the whole window, also one with a sliding window: a saved prefix needs it.
fn cache(shape: &Shape, context: u64, parallel: u64) -> u64 {
    let per_token = shape.layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.cached()));
    let attention = per_token.saturating_mul(context).saturating_mul(CACHE_NUMBER);
    let recurrent = shape.recurrent_state.saturating_mul(NUMBER);
    attention.saturating_add(recurrent).saturating_mul(parallel)
}

/// What one batch keeps at once: the residual stream and its norms (4 widths), queries, keys and values of the
/// widest layer, three layers of the feed-forward part and a quantised copy of one; the mask of the attention
/// (a float and a half float per token and place of the window); and twice the logits of each sequence.
fn compute(shape: &Shape, context: u64, parallel: u64) -> u64 {
    let per_token = per_token(shape);
    let activations = per_token.saturating_mul(NUMBER).saturating_mul(BATCH);
    let mask = context.saturating_mul(BATCH).saturating_mul(NUMBER + CACHE_NUMBER);
    let logits = shape.vocabulary.saturating_mul(NUMBER).saturating_mul(2).saturating_mul(parallel);
    [mask, logits, constant(shape)].into_iter().fold(activations, u64::saturating_add)
}

/// Numbers of a token that are there at once while a layer is computed.
fn per_token(shape: &Shape) -> u64 {
    let attention = shape
        .layers
        .iter()
        .map(|layer| layer.heads.saturating_mul(layer.key).saturating_add(layer.cached()))
        .max()
        .unwrap_or(0);
    shape
        .width
        .saturating_mul(4)
        .saturating_add(shape.feed_forward.saturating_mul(4))
        .saturating_add(attention)
}

/// The vocabulary and the process itself.
fn constant(shape: &Shape) -> u64 {
    shape.vocabulary.saturating_mul(TOKEN_ENTRY).saturating_add(PROCESS)
}

/// `5.1 GiB (weights 4.4, cache 0.6, buffers 0.1)`.
struct Needs<'a>(&'a MemoryEstimate);

impl fmt::Display for Needs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(MemoryEstimate { weights, cache, compute, total, .. }) = self;
        let unit = Unit::of(*total);
        let [weights, cache, compute, total] =
            [weights, cache, compute, total].map(|bytes| unit.count(*bytes));
        write!(f, "{total:.1} {} (weights {weights:.1}, cache {cache:.1}, buffers {compute:.1})", unit.name())
    }
}

struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = Unit::of(self.0);
        write!(f, "{:.1} {}", unit.count(self.0), unit.name())
    }
}

#[derive(Clone, Copy)]
enum Unit {
    Mebibytes,
    Gibibytes,
}

impl Unit {
    fn of(bytes: u64) -> Self {
        if bytes < 1 << 30 { Self::Mebibytes } else { Self::Gibibytes }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Mebibytes => "MiB",
            Self::Gibibytes => "GiB",
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    fn count(self, bytes: u64) -> f64 {
        let unit = match self {
            Self::Mebibytes => 1_u64 << 20,
            Self::Gibibytes => 1 << 30,
        };
        bytes as f64 / unit as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gguf::fixture::GgufFile;
    use crate::gguf::{Header, TensorType};

    fn model(heads: u32, kv_heads: u32, feed_forward: u32) -> ModelHeader {
        let bytes = GgufFile::default()
            .text("general.architecture", "llama")
            .u32("llama.block_count", 2)
            .u32("llama.embedding_length", 512)
            .u32("llama.context_length", 4096)
            .u32("llama.feed_forward_length", feed_forward)
            .u32("llama.attention.head_count", heads)
            .u32("llama.attention.head_count_kv", kv_heads)
            .text("tokenizer.ggml.model", "gpt2")
            .texts("tokenizer.ggml.tokens", &["a", "b"])
            .tensor("blk.1.attn_q.weight", &[512, 512], TensorType::Q8_0)
            .bytes();
        ModelHeader::check(&Header::read(bytes.as_slice(), bytes.len() as u64).unwrap()).unwrap()
    }

    fn having(bytes: u64) -> Available {
        Available { bytes, bound: Bound::Machine }
    }

    #[test]
    fn weights_and_cache_are_exact() {
        let estimate = estimate(&model(8, 2, 1024), 1000, 3, &having(0));
        assert_eq!(estimate.weights, 512 * 512 / 32 * 34);
        // Two layers, two heads of 64 + 64 numbers of two bytes, 1024 tokens, three sequences.
        assert_eq!(estimate.cache, 2 * 2 * 128 * 2 * 1024 * 3);
        assert_eq!(estimate.total, estimate.weights + estimate.cache + estimate.compute);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_numbers() {
        let header = model(8, 2, 1024);
        let needed = estimate(&header, 4096, 1, &having(0)).total;
        assert!(check(&header, 4096, 1, &having(needed)).is_ok());
        let refused = check(&header, 4096, 1, &having(needed - 1)).unwrap_err();
        assert_eq!(refused.estimate.total, needed);
        let estimate = MemoryEstimate {
            weights: 4724464025,
            cache: 644245094,
            compute: 107374182,
            total: 5476083301,
            available: 3435973837,
        };
        let sentence = TooLarge { estimate, bound: Bound::Cgroup }.to_string();
        assert_eq!(
            sentence,
            "the model needs about 5.1 GiB (weights 4.4, cache 0.6, buffers 0.1), and 3.2 GiB can be had (what the \
             control group leaves)"
        );
    }

    #[test]
    fn the_window_is_what_was_asked_for_up_to_what_the_model_knows() {
        assert_eq!(context_tokens(0, 8192), 2048);
        assert_eq!(context_tokens(0, 512), 512);
        assert_eq!(context_tokens(4096, 8192), 4096);
        assert_eq!(context_tokens(u32::MAX, u32::MAX), CONTEXT_LIMIT);
    }

    proptest! {
        #[test]
        fn absurd_numbers_saturate_and_never_overflow(
            kv_heads in 1_u32..=u32::MAX,
            feed_forward in any::<u32>(),
            context in 1..=u32::MAX,
            parallel in any::<u32>(),
        ) {
            let small = estimate(&model(1, 1, 1), 1, 1, &having(0)).total;
            let estimate = estimate(&model(1, kv_heads, feed_forward), context, parallel, &having(0));
            prop_assert!(estimate.total >= small);
        }
    }
}
