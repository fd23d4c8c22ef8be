//! The numbers of a model's header that its memory follows from: layers, heads, widths.

use super::{Header, Value};

/// What of a model's shape its caches and buffers depend on. Numbers are as the file claims them: whoever
/// multiplies them must expect the largest there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Width of the residual stream (`embedding_length`).
    pub width: u64,
    /// The widest layer of a feed-forward part, all experts that are used at once together.
    pub feed_forward: u64,
    /// Tokens in the vocabulary.
    pub vocabulary: u64,
    /// Attention, layer by layer.
    pub layers: Vec<LayerShape>,
    /// Numbers that a recurrent layer keeps per sequence, all such layers together; 0 when there is none.
    pub recurrent_state: u64,
}

/// The attention of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerShape {
    /// Query heads; 0 when the layer has no attention.
    pub heads: u64,
    /// Heads of keys and values.
    pub kv_heads: u64,
    /// Numbers in one key.
    pub key: u64,
    /// Numbers in one value.
    pub value: u64,
}

impl LayerShape {
    /// Numbers that the cache keeps of one token.
    pub fn cached(&self) -> u64 {
        self.kv_heads.saturating_mul(self.key.saturating_add(self.value))
    }
}

impl Shape {
    /// What is missing has llama.cpp's own default.
    pub(super) fn read(header: &Header, architecture: &str, blocks: u64) -> Self {
        let value = |name: &str| header.value(&format!("{architecture}.{name}"));
        let number = |name: &str| value(name).and_then(Value::as_u64);
        let per_layer = |name: &str| PerLayer::read(value(name));
        let width = number("embedding_length").unwrap_or(0);
        let heads = per_layer("attention.head_count");
        let kv_heads = per_layer("attention.head_count_kv");
        // A model with two kinds of layers may have two lengths; the longer one is safe for both.
        let longest = |name: &str| number(name).max(number(&format!("{name}_swa")));
        let (key, value_length) = (longest("attention.key_length"), longest("attention.value_length"));
        let layer = |index: u64| {
            let heads = heads.at(index).unwrap_or(0);
            let default = width.checked_div(heads).unwrap_or(0);
            LayerShape {
                heads,
                kv_heads: kv_heads.at(index).unwrap_or(heads),
                key: key.unwrap_or(default),
                value: value_length.unwrap_or(default),
            }
        };
        let layers: Vec<LayerShape> = (0..blocks).map(layer).collect();
        let dense = per_layer("feed_forward_length").largest();
        let experts = number("expert_feed_forward_length")
            .unwrap_or(dense)
            .saturating_mul(number("expert_used_count").unwrap_or(0));
        let state = |name: &str| number(&format!("ssm.{name}")).unwrap_or(0);
        let convolution = state("conv_kernel").saturating_sub(1).saturating_mul(
            state("inner_size")
                .saturating_add(state("group_count").saturating_mul(state("state_size")).saturating_mul(2)),
        );
        let recurrent = convolution.saturating_add(state("state_size").saturating_mul(state("inner_size")));
        Self {
            width,
            feed_forward: dense.max(experts),
            vocabulary: header
                .value("tokenizer.ggml.tokens")
                .and_then(Value::as_array)
                .map_or(0, |(_, length)| length),
            layers,
            recurrent_state: recurrent.saturating_mul(blocks),
        }
    }
}

/// A number for all layers, or one for each.
enum PerLayer {
    Same(Option<u64>),
    Each(Vec<u64>),
}

impl PerLayer {
    fn read(value: Option<&Value>) -> Self {
        match value {
            Some(Value::Numbers(_, numbers)) => Self::Each(numbers.clone()),
            other => Self::Same(other.and_then(Value::as_u64)),
        }
    }

    fn at(&self, layer: u64) -> Option<u64> {
        match self {
            Self::Same(number) => *number,
            Self::Each(numbers) => usize::try_from(layer).ok().and_then(|layer| numbers.get(layer)).copied(),
        }
    }

    fn largest(&self) -> u64 {
        match self {
            Self::Same(number) => number.unwrap_or(0),
            Self::Each(numbers) => numbers.iter().copied().max().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::GgufFile;
    use super::*;

    fn read(file: GgufFile, blocks: u64) -> Shape {
        let bytes = file.u32("llama.embedding_length", 576).bytes();
        Shape::read(&Header::read(bytes.as_slice(), bytes.len() as u64).unwrap(), "llama", blocks)
    }

    #[test]
    fn head_lengths_follow_from_the_width_unless_they_are_given() {
        let file = || {
            GgufFile::default()
                .u32("llama.attention.head_count", 9)
                .u32("llama.attention.head_count_kv", 3)
                .u32("llama.feed_forward_length", 1536)
        };
        let shape = read(file(), 30);
        assert_eq!(shape.layers.len(), 30);
        assert_eq!(shape.layers[7], LayerShape { heads: 9, kv_heads: 3, key: 64, value: 64 });
        assert_eq!((shape.layers[7].cached(), shape.feed_forward), (384, 1536));
        let given =
            read(file().u32("llama.attention.key_length", 256).u32("llama.attention.key_length_swa", 300), 1);
        assert_eq!((given.layers[0].key, given.layers[0].value), (300, 64));
    }

    #[test]
    fn heads_may_differ_from_layer_to_layer() {
        let file = GgufFile::default()
            .u32("llama.attention.head_count", 8)
            .numbers("llama.attention.head_count_kv", &[0, 4, -1]);
        let layers = read(file, 4).layers;
        let heads: Vec<u64> = layers.iter().map(|layer| layer.kv_heads).collect();
        assert_eq!(heads, [0, 4, u64::MAX, 8]);
        assert_eq!(layers[2].cached(), u64::MAX);
    }

    #[test]
    fn the_widest_of_dense_layers_and_experts_counts() {
        let file = GgufFile::default()
            .numbers("llama.feed_forward_length", &[100, 900])
            .u32("llama.expert_feed_forward_length", 200)
            .u32("llama.expert_used_count", 8);
        assert_eq!(read(file, 2).feed_forward, 1600);
        assert_eq!(
            read(GgufFile::default().numbers("llama.feed_forward_length", &[100, 900]), 2).feed_forward,
            900
        );
    }

    #[test]
    fn a_header_without_attention_has_no_cache() {
        let shape =
            read(GgufFile::default().u32("llama.ssm.state_size", 16).u32("llama.ssm.inner_size", 100), 2);
        assert!(shape.layers.iter().all(|layer| layer.cached() == 0));
        assert_eq!(shape.recurrent_state, 2 * 1600);
    }
}
