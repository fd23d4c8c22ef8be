//! Is this header a LoRA adapter's, and one for this very model?

use std::collections::{BTreeMap, BTreeSet};

use super::{Header, ModelHeader, Tensor, TensorType, Value};

const RANK_LIMIT: u64 = 512;
/// Rank 512 on every matrix of a 70-billion model is about this much.
const SIZE_LIMIT: u64 = 8 << 30;
const A: &str = ".lora_a";
const B: &str = ".lora_b";

/// Why a well-formed GGUF file is not an adapter for the loaded model.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the messages say")]
pub enum AdapterFault {
    /// A model, or a control vector.
    #[error("the file is not a LoRA adapter")]
    NotAnAdapter,
    /// Needs the caller to find its invocation tokens in the prompt.
    #[error("the file is an activated LoRA (aLoRA), which is not supported")]
    Activated,
    /// For another family of models.
    #[error("the adapter is for {adapter} models, the loaded model is {model}")]
    Architecture { adapter: String, model: String },
    /// llama.cpp reads it as a 32-bit float without looking.
    #[error("adapter.lora.alpha is missing, not a 32-bit float, or not finite")]
    Alpha,
    /// More than any adapter needs.
    #[error("the adapter is {0} bytes long, more than is plausible")]
    Size(u64),
    /// Not half of a pair.
    #[error("tensor {0} is neither a lora_a nor a lora_b")]
    Stray(String),
    /// One half without the other.
    #[error("{0} has only one of lora_a and lora_b")]
    HalfPair(String),
    /// An adapter of nothing.
    #[error("the adapter has no tensors")]
    Empty,
    /// The base model has no tensor of that name.
    #[error("the loaded model has no tensor {0}; the adapter belongs to another model")]
    UnknownTarget(String),
    /// The product of the pair does not have the base tensor's shape.
    #[error("the shape for {0} does not match the loaded model; the adapter belongs to another model")]
    Shape(String),
    /// The inner dimension.
    #[error("the ranks for {target} are {a} and {b}; they must be equal and between 1 and {RANK_LIMIT}")]
    Rank { target: String, a: u64, b: u64 },
    /// Only float types and 8-bit blocks are multiplied.
    #[error("tensor {0} has a type that adapters do not use")]
    Type(String),
}

/// What an adapter changes.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterHeader {
    /// `general.architecture`.
    pub architecture: String,
    /// The largest rank of its pairs.
    pub rank: u32,
    /// The update is scaled by alpha / rank.
    pub alpha: f32,
    /// The kinds of matrices it changes (`attn_q`, `ffn_up`), each once, sorted.
    pub targets: Vec<String>,
    /// Number of tensors in the file.
    pub tensors: u32,
    /// Size of the file.
    pub file_bytes: u64,
}

impl AdapterHeader {
    /// Checks a header against the loaded model.
    ///
    /// # Errors
    /// When it is no adapter, is incomplete, or belongs to another model.
    pub fn check(header: &Header, base: &ModelHeader) -> Result<Self, AdapterFault> {
        if header.text("general.type") != Some("adapter") || header.text("adapter.type") != Some("lora") {
            return Err(AdapterFault::NotAnAdapter);
        }
        if header.value("adapter.alora.invocation_tokens").is_some() {
            return Err(AdapterFault::Activated);
        }
        let architecture = header.text("general.architecture").unwrap_or_default().to_owned();
        if architecture != base.architecture {
            return Err(AdapterFault::Architecture {
                adapter: architecture,
                model: base.architecture.clone(),
            });
        }
        let alpha = match header.value("adapter.lora.alpha") {
            Some(Value::F32(alpha)) if alpha.is_finite() => *alpha,
            _ => return Err(AdapterFault::Alpha),
        };
        if header.file_bytes() > SIZE_LIMIT {
            return Err(AdapterFault::Size(header.file_bytes()));
        }
        let mut rank = 0;
        let mut targets = BTreeSet::new();
        for (target, pair) in pairs(header)? {
            let (Some(a), Some(b)) = (pair.a, pair.b) else {
                return Err(AdapterFault::HalfPair(target.to_owned()));
            };
            let Some(weight) = base.tensors.get(target) else {
                return Err(AdapterFault::UnknownTarget(target.to_owned()));
            };
            rank = rank.max(check_pair(target, a, b, weight)?);
            targets.insert(kind_of(target).to_owned());
        }
        if targets.is_empty() {
            return Err(AdapterFault::Empty);
        }
        Ok(Self {
            architecture,
            rank: u32::try_from(rank).unwrap_or(u32::MAX),
            alpha,
            targets: targets.into_iter().collect(),
            tensors: u32::try_from(header.tensors().len()).unwrap_or(u32::MAX),
            file_bytes: header.file_bytes(),
        })
    }
}

#[derive(Default)]
struct Pair<'a> {
    a: Option<&'a Tensor>,
    b: Option<&'a Tensor>,
}

fn pairs(header: &Header) -> Result<BTreeMap<&str, Pair<'_>>, AdapterFault> {
    let mut pairs: BTreeMap<&str, Pair<'_>> = BTreeMap::new();
    for (name, tensor) in header.tensors() {
        let (target, is_a) = match (name.strip_suffix(A), name.strip_suffix(B)) {
            (Some(target), _) => (target, true),
            (_, Some(target)) => (target, false),
            // Some trainers store norms beside the pairs; llama.cpp leaves them out, and so do we.
            _ if name.ends_with("_norm.weight") => continue,
            _ => return Err(AdapterFault::Stray(name.clone())),
        };
        // llama.cpp removes every occurrence of the suffix, we only the last: they must be the same.
        if target.contains(A) || target.contains(B) {
            return Err(AdapterFault::Stray(name.clone()));
        }
        if ![TensorType::F32, TensorType::F16, TensorType::BF16, TensorType::Q8_0].contains(&tensor.kind) {
            return Err(AdapterFault::Type(name.clone()));
        }
        let pair = pairs.entry(target).or_default();
        *(if is_a { &mut pair.a } else { &mut pair.b }) = Some(tensor);
    }
    Ok(pairs)
}

/// The rank of a pair that fits `weight`. A is (in, r) and B is (r, out); for the token embedding A is a
/// table of rows to pick from and has its dimensions swapped.
fn check_pair(target: &str, a: &Tensor, b: &Tensor, weight: &Tensor) -> Result<u64, AdapterFault> {
    let [input, output, experts, more] = weight.shape;
    let (a_rank, fits) = if target.ends_with("token_embd.weight") {
        (a.shape[0], a.shape[1] == output && b.shape[1] == input)
    } else {
        (a.shape[1], a.shape[0] == input && b.shape[1] == output)
    };
    let stacked = [a, b].iter().all(|tensor| tensor.shape[2] == experts && tensor.shape[3] == more);
    if !fits || !stacked {
        return Err(AdapterFault::Shape(target.to_owned()));
    }
    if a_rank != b.shape[0] || !(1..=RANK_LIMIT).contains(&a_rank) {
        return Err(AdapterFault::Rank { target: target.to_owned(), a: a_rank, b: b.shape[0] });
    }
    Ok(a_rank)
}

/// `blk.7.attn_q.weight` is an `attn_q`.
fn kind_of(target: &str) -> &str {
    let name = target.strip_suffix(".weight").unwrap_or(target);
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::GgufFile;
    use super::*;

    const Q: &str = "blk.0.attn_q.weight";

    fn header(file: GgufFile) -> Header {
        let bytes = file.bytes();
        Header::read(bytes.as_slice(), bytes.len() as u64).unwrap()
    }

    fn base() -> ModelHeader {
        let file = GgufFile::default()
            .text("general.architecture", "llama")
            .u32("llama.block_count", 1)
            .u32("llama.embedding_length", 64)
            .u32("llama.context_length", 2048)
            .text("tokenizer.ggml.model", "gpt2")
            .texts("tokenizer.ggml.tokens", &["a"])
            .tensor("token_embd.weight", &[64, 100], TensorType::F32)
            .tensor(Q, &[64, 32], TensorType::F32);
        ModelHeader::check(&header(file)).unwrap()
    }

    fn adapter() -> GgufFile {
        GgufFile::default()
            .text("general.architecture", "llama")
            .text("general.type", "adapter")
            .text("adapter.type", "lora")
            .f32("adapter.lora.alpha", 16.0)
    }

    fn pair(file: GgufFile, target: &str, a: [u64; 2], b: [u64; 2]) -> GgufFile {
        file.tensor(&format!("{target}.lora_a"), &a, TensorType::F32).tensor(
            &format!("{target}.lora_b"),
            &b,
            TensorType::F32,
        )
    }

    fn check(file: GgufFile) -> Result<AdapterHeader, AdapterFault> {
        AdapterHeader::check(&header(file), &base())
    }

    #[test]
    fn a_fitting_adapter_is_described() {
        let file = pair(adapter(), Q, [64, 8], [8, 32]);
        let file = pair(file, "token_embd.weight", [4, 100], [4, 64]);
        let found = check(file).unwrap();
        assert_eq!((found.rank, found.alpha, found.tensors), (8, 16.0, 4));
        assert_eq!(found.targets, ["attn_q", "token_embd"]);
    }

    #[test]
    fn a_model_is_not_an_adapter() {
        let file = GgufFile::default().text("general.type", "model");
        assert!(matches!(check(file), Err(AdapterFault::NotAnAdapter)));
    }

    #[test]
    fn another_architecture_is_named() {
        let file = GgufFile::default()
            .text("general.architecture", "gemma3")
            .text("general.type", "adapter")
            .text("adapter.type", "lora");
        let fault = check(file).unwrap_err();
        assert_eq!(fault.to_string(), "the adapter is for gemma3 models, the loaded model is llama");
    }

    #[test]
    fn alpha_must_be_a_finite_float() {
        let typed = |file: GgufFile| {
            let file = file
                .text("general.architecture", "llama")
                .text("general.type", "adapter")
                .text("adapter.type", "lora");
            check(pair(file, Q, [64, 8], [8, 32]))
        };
        let key = "adapter.lora.alpha";
        assert!(matches!(typed(GgufFile::default()), Err(AdapterFault::Alpha)));
        assert!(matches!(typed(GgufFile::default().u32(key, 16)), Err(AdapterFault::Alpha)));
        assert!(matches!(typed(GgufFile::default().f32(key, f32::NAN)), Err(AdapterFault::Alpha)));
    }

    #[test]
    fn shapes_and_ranks_must_fit_the_model() {
        let shape = |a, b| check(pair(adapter(), Q, a, b)).unwrap_err();
        assert!(matches!(shape([65, 8], [8, 32]), AdapterFault::Shape(_)));
        assert!(matches!(shape([64, 8], [8, 33]), AdapterFault::Shape(_)));
        assert!(matches!(shape([64, 8], [9, 32]), AdapterFault::Rank { .. }));
        assert!(matches!(shape([64, 513], [513, 32]), AdapterFault::Rank { .. }));
        let unknown = check(pair(adapter(), "blk.7.attn_q.weight", [64, 8], [8, 32])).unwrap_err();
        assert!(matches!(unknown, AdapterFault::UnknownTarget(_)));
    }

    #[test]
    fn pairs_must_be_complete_and_alone() {
        let half = adapter().tensor(&format!("{Q}.lora_a"), &[64, 8], TensorType::F32);
        assert!(matches!(check(half), Err(AdapterFault::HalfPair(_))));
        assert!(matches!(check(adapter()), Err(AdapterFault::Empty)));
        let stray = adapter().tensor("blk.0.attn_q.bias", &[4], TensorType::F32);
        assert!(matches!(check(stray), Err(AdapterFault::Stray(_))));
        let doubled = pair(adapter(), "blk.0.lora_a.attn_q.weight", [64, 8], [8, 32]);
        assert!(matches!(check(doubled), Err(AdapterFault::Stray(_))));
        let integers =
            adapter().tensor(&format!("{Q}.lora_a"), &[64, 8], TensorType::from_number(24).unwrap());
        assert!(matches!(check(integers), Err(AdapterFault::Type(_))));
    }
}
