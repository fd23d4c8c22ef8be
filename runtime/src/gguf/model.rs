//! Is this header a language model's that llama.cpp can be trusted to load or refuse politely?

use std::collections::BTreeMap;

use super::vectors::{self, Pooling};
use super::{Header, Shape, Tensor, Value, ValueType, asserted};

/// llama.cpp's own array size (`LLAMA_MAX_LAYERS`); it aborts beyond.
const BLOCK_LIMIT: u64 = 512;
/// Longer windows than 16 million tokens do not exist; 400 million hang the allocation.
const CONTEXT_LIMIT: u64 = 1 << 24;
const WIDTH_LIMIT: u64 = 1 << 20;

/// Why a well-formed GGUF file is not a model we load.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the messages say")]
pub enum ModelFault {
    /// Adapters, projectors and vocabularies are GGUF files too.
    #[error("the file is not a model but: {0}")]
    NotAModel(String),
    /// A key every model needs is missing or of another type.
    #[error("{0} is missing or has the wrong type")]
    Missing(String),
    /// A number outside what is plausible.
    #[error("{key} is {value}, which is not between 1 and {limit}")]
    Implausible { key: String, value: u64, limit: u64 },
    /// No tensor at all, or none of the last block.
    #[error("the file has no tensors for block {0}")]
    NoTensors(u64),
    /// Split models have to be merged.
    #[error("the file is one of {0} parts; merge them with llama-gguf-split first")]
    Split(u64),
    /// NaN, infinity, or a negative epsilon.
    #[error("{0} is not a plausible number")]
    Float(String),
    /// Whole numbers where llama.cpp adds or multiplies floats.
    #[error("tensor {0} does not have floats")]
    NotFloats(String),
    /// The tokenizer's tables do not fit each other.
    #[error("the tokenizer is unusable: {0}")]
    Tokenizer(&'static str),
}

/// What the runtime needs of a model's header once the model is loaded: enough to judge adapters against it.
#[derive(Debug, Clone)]
pub struct ModelHeader {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`, or empty.
    pub name: String,
    /// The Jinja source of the file's own chat template.
    pub chat_template: Option<String>,
    /// Tokens the model was trained to see at once.
    pub context_length: u32,
    /// Size of the file.
    pub file_bytes: u64,
    /// Layers, heads and widths: what the memory it takes follows from.
    pub shape: Shape,
    /// What a model of embeddings does with the vectors of an input's tokens (`pooling_type`).
    pub pooling: Option<Pooling>,
    /// Whether it only reads: every token sees the whole input, and there is nothing to continue.
    pub encoder: bool,
    /// Whether the vectors of an input need all of it at once.
    pub whole: bool,
    /// Numbers in the vector of a token; `None` when the file promises another number than its layers make, which
    /// llama.cpp would believe and read beyond what was computed.
    pub vector_width: Option<u64>,
    /// All tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
}

impl ModelHeader {
    /// Checks a header.
    ///
    /// # Errors
    /// When it is no model, or has values that llama.cpp is known to die of.
    pub fn check(header: &Header) -> Result<Self, ModelFault> {
        match header.text("general.type") {
            None | Some("model") => {}
            Some(other) => return Err(ModelFault::NotAModel(other.to_owned())),
        }
        let architecture = header
            .text("general.architecture")
            .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or_else(|| ModelFault::Missing("general.architecture".to_owned()))?;
        if let Some(parts) = header.value("split.count").and_then(Value::as_u64).filter(|parts| *parts > 1) {
            return Err(ModelFault::Split(parts));
        }
        let number = |name: &str, limit| number(header, format!("{architecture}.{name}"), limit);
        let blocks = number("block_count", BLOCK_LIMIT)?;
        let width = number("embedding_length", WIDTH_LIMIT)?;
        let context_length = number("context_length", CONTEXT_LIMIT)?;
        let last_block = format!("blk.{}.", blocks - 1);
        if !header.tensors().keys().any(|name| name.starts_with(&last_block)) {
            return Err(ModelFault::NoTensors(blocks - 1));
        }
        check_tokenizer(header)?;
        asserted::check(header, architecture, blocks)?;
        let vectors = vectors::read(header, architecture, width)?;
        Ok(Self {
            shape: Shape::read(header, architecture, blocks),
            pooling: vectors.pooling,
            encoder: vectors.encoder,
            whole: vectors.whole,
            vector_width: vectors.width,
            architecture: architecture.to_owned(),
            name: header.text("general.name").unwrap_or_default().to_owned(),
            chat_template: header.text("tokenizer.chat_template").map(str::to_owned),
            context_length: u32::try_from(context_length).unwrap_or(u32::MAX),
            file_bytes: header.file_bytes(),
            tensors: header.tensors().clone(),
        })
    }
}

fn number(header: &Header, key: String, limit: u64) -> Result<u64, ModelFault> {
    match header.value(&key).and_then(Value::as_u64) {
        None => Err(ModelFault::Missing(key)),
        Some(value) if value == 0 || value > limit => Err(ModelFault::Implausible { key, value, limit }),
        Some(value) => Ok(value),
    }
}

/// The tables are indexed with the vocabulary's length, so all must have it.
fn check_tokenizer(header: &Header) -> Result<(), ModelFault> {
    match header.text("tokenizer.ggml.model") {
        None | Some("none" | "no_vocab") => return Err(ModelFault::Tokenizer("the file has no vocabulary")),
        Some(_) => {}
    }
    let array = |key: &str| header.value(key).map(|value| value.as_array());
    let tokens = match array("tokenizer.ggml.tokens") {
        Some(Some((ValueType::String, length))) if length > 0 => length,
        _ => return Err(ModelFault::Tokenizer("the token list is missing or not a list of texts")),
    };
    match array("tokenizer.ggml.scores") {
        None => {}
        Some(Some((ValueType::F32 | ValueType::I32, length))) if length >= tokens => {}
        Some(_) => return Err(ModelFault::Tokenizer("the scores do not match the token list")),
    }
    match array("tokenizer.ggml.token_type") {
        None => {}
        Some(Some((ValueType::I32, length))) if length >= tokens => {}
        Some(_) => return Err(ModelFault::Tokenizer("the token types do not match the token list")),
    }
    match array("tokenizer.ggml.merges") {
        None | Some(Some((ValueType::String, _))) => Ok(()),
        Some(_) => Err(ModelFault::Tokenizer("the merges are not a list of texts")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::TensorType;
    use super::super::fixture::GgufFile;
    use super::*;

    fn model(blocks: u32) -> GgufFile {
        GgufFile::default()
            .text("general.architecture", "llama")
            .u32("llama.block_count", blocks)
            .u32("llama.embedding_length", 64)
            .u32("llama.context_length", 2048)
            .text("tokenizer.ggml.model", "gpt2")
            .tensor("blk.1.attn_q.weight", &[64, 64], TensorType::F32)
    }

    fn check(file: GgufFile) -> Result<ModelHeader, ModelFault> {
        let bytes = file.bytes();
        ModelHeader::check(&Header::read(bytes.as_slice(), bytes.len() as u64).unwrap())
    }

    #[test]
    fn a_plausible_model_passes() {
        let header = check(model(2).texts("tokenizer.ggml.tokens", &["a"])).unwrap();
        assert_eq!((header.architecture.as_str(), header.context_length), ("llama", 2048));
    }

    #[test]
    fn block_counts_that_abort_llama_are_refused() {
        for blocks in [0, 513, u32::MAX] {
            let fault = check(model(blocks).texts("tokenizer.ggml.tokens", &["a"])).unwrap_err();
            assert!(matches!(fault, ModelFault::Implausible { .. }), "{blocks}: {fault}");
        }
        let fault = check(model(30).texts("tokenizer.ggml.tokens", &["a"])).unwrap_err();
        assert!(matches!(fault, ModelFault::NoTensors(29)), "{fault}");
    }

    #[test]
    fn an_adapter_and_a_split_part_are_not_models() {
        let fault = check(GgufFile::default().text("general.type", "adapter")).unwrap_err();
        assert!(matches!(fault, ModelFault::NotAModel(_)), "{fault}");
        let fault = check(model(2).u32("split.count", 3)).unwrap_err();
        assert!(matches!(fault, ModelFault::Split(3)), "{fault}");
    }

    #[test]
    fn tokenizer_tables_of_other_lengths_or_types_are_refused() {
        for bad in [
            model(2),
            model(2).u32("tokenizer.ggml.tokens", 1),
            model(2).texts("tokenizer.ggml.tokens", &["a"]).texts("tokenizer.ggml.scores", &["a"]),
            model(2).texts("tokenizer.ggml.tokens", &["a"]).u32("tokenizer.ggml.token_type", 1),
            model(2).texts("tokenizer.ggml.tokens", &["a"]).u32("tokenizer.ggml.merges", 1),
        ] {
            assert!(matches!(check(bad), Err(ModelFault::Tokenizer(_))));
        }
    }
}
