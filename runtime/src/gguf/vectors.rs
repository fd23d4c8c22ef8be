//! What a model's header says about vectors of texts: whether and how it makes them, and how wide they are.

use super::{Header, ModelFault, Value};

/// Architectures that only read: they have no cache, and llama.cpp makes no logits for them.
const ENCODERS: [&str; 9] = [
    "bert",
    "eurobert",
    "gemma-embedding",
    "jina-bert-v2",
    "jina-bert-v3",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
];
/// Keeps no keys and values from one batch to the next, though its attention may only look back.
const FORGETFUL: &str = "llama-embed";

/// How the vectors of an input's tokens become one, by the numbers that llama.cpp gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Not at all: the model generates text, or gives a vector per token.
    None,
    /// Their mean.
    Mean,
    /// The first one's.
    First,
    /// The last one's.
    Last,
    /// A score of how well two texts fit, not a vector.
    Rank,
}

impl Pooling {
    fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Mean,
            2 => Self::First,
            3 => Self::Last,
            4 => Self::Rank,
            _ => return None,
        })
    }
}

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vectors {
    pub(super) pooling: Option<Pooling>,
    pub(super) encoder: bool,
    /// Whether an input has to be computed at once.
    pub(super) whole: bool,
    /// Numbers in the vector of a token, when the layers that make it fit each other and the file's own word.
    pub(super) width: Option<u64>,
}

/// `width` is the model's own, which later layers may change for the vectors.
///
/// # Errors
/// When a value is of another type or of no known kind.
pub(super) fn read(header: &Header, architecture: &str, width: u64) -> Result<Vectors, ModelFault> {
    let key = |name: &str| format!("{architecture}.{name}");
    let pooling = pooling(header, key("pooling_type"))?;
    // A reranker's own; never used here, but llama.cpp reads it.
    self::pooling(header, key("classifier.pooling_type"))?;
    let causal = match header.value(&key("attention.causal")) {
        None => true,
        Some(Value::Bool(causal)) => *causal,
        Some(_) => return Err(ModelFault::Missing(key("attention.causal"))),
    };
    let promised = match header.value(&key("embedding_length_out")).map(Value::as_u64) {
        None | Some(Some(0)) => width,
        Some(Some(promised)) => promised,
        Some(None) => return Err(ModelFault::Missing(key("embedding_length_out"))),
    };
    let encoder = ENCODERS.contains(&architecture);
    Ok(Vectors {
        pooling,
        encoder,
        whole: encoder || !causal || architecture == FORGETFUL,
        width: made(header, width).filter(|made| *made == promised),
    })
}

/// What the dense layers behind the model make of its `width`; `None` when they do not fit.
fn made(header: &Header, width: u64) -> Option<u64> {
    let layers =
        ["dense_2.weight", "dense_3.weight"].into_iter().filter_map(|name| header.tensors().get(name));
    layers.into_iter().try_fold(width, |made, layer| (layer.shape[0] == made).then_some(layer.shape[1]))
}

fn pooling(header: &Header, key: String) -> Result<Option<Pooling>, ModelFault> {
    match header.value(&key).map(Value::as_u64) {
        None => Ok(None),
        Some(number) => match number.and_then(Pooling::from_number) {
            None => Err(ModelFault::Missing(key)),
            known => Ok(known),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::TensorType;
    use super::super::fixture::GgufFile;
    use super::*;

    fn check(file: GgufFile, architecture: &str) -> Result<Vectors, ModelFault> {
        let bytes = file.bytes();
        read(&Header::read(bytes.as_slice(), bytes.len() as u64).unwrap(), architecture, 64)
    }

    #[test]
    fn pooling_is_read_and_an_unknown_kind_is_refused() {
        assert_eq!(check(GgufFile::default(), "llama").unwrap().pooling, None);
        let declared = |number| check(GgufFile::default().u32("llama.pooling_type", number), "llama");
        let kinds = [Pooling::None, Pooling::Mean, Pooling::First, Pooling::Last, Pooling::Rank];
        for (number, kind) in (0..).zip(kinds) {
            assert_eq!(declared(number).unwrap().pooling, Some(kind));
        }
        for file in [
            GgufFile::default().u32("llama.pooling_type", 5),
            GgufFile::default().u32("llama.pooling_type", u32::MAX),
            GgufFile::default().text("llama.pooling_type", "mean"),
            GgufFile::default().numbers("llama.pooling_type", &[1]),
            GgufFile::default().f32("llama.pooling_type", 1.0),
            GgufFile::default().u32("llama.classifier.pooling_type", 9),
        ] {
            assert!(matches!(check(file, "llama"), Err(ModelFault::Missing(_))));
        }
    }

    #[test]
    fn encoders_and_models_that_look_ahead_read_an_input_at_once() {
        let read = |file, architecture| {
            let vectors = check(file, architecture).unwrap();
            (vectors.encoder, vectors.whole)
        };
        assert_eq!(read(GgufFile::default(), "llama"), (false, false));
        assert_eq!(read(GgufFile::default(), "nomic-bert"), (true, true));
        assert_eq!(read(GgufFile::default(), "llama-embed"), (false, true));
        assert_eq!(read(GgufFile::default().flag("qwen3.attention.causal", false), "qwen3"), (false, true));
        assert_eq!(read(GgufFile::default().flag("qwen3.attention.causal", true), "qwen3"), (false, false));
        let odd = GgufFile::default().u32("qwen3.attention.causal", 0);
        assert!(matches!(check(odd, "qwen3"), Err(ModelFault::Missing(_))));
    }

    #[test]
    fn the_width_is_what_the_last_layer_makes_and_nothing_else_may_be_promised() {
        let dense = |file: GgufFile, two: [u64; 2], three: [u64; 2]| {
            let file = file.tensor("dense_2.weight", &two, TensorType::F32);
            check(file.tensor("dense_3.weight", &three, TensorType::F32), "gemma-embedding")
        };
        let promising = |width| GgufFile::default().u32("gemma-embedding.embedding_length_out", width);
        assert_eq!(dense(GgufFile::default(), [64, 256], [256, 64]).unwrap().width, Some(64));
        assert_eq!(dense(promising(32), [64, 256], [256, 32]).unwrap().width, Some(32));
        for bad in [
            dense(GgufFile::default(), [64, 256], [256, 32]),
            dense(GgufFile::default(), [64, 256], [255, 64]),
            dense(promising(64), [64, 256], [256, 32]),
            check(promising(1 << 31), "gemma-embedding"),
            check(promising(32), "gemma-embedding"),
        ] {
            assert_eq!(bad.unwrap().width, None);
        }
        let text = GgufFile::default().text("llama.embedding_length_out", "64");
        assert!(matches!(check(text, "llama"), Err(ModelFault::Missing(_))));
    }
}
