//! Model files.

use synesis_proto::reason;

use crate::support::{Runtime, SMOL, model, text};
use crate::{Faults, Spoilt, sized};

const U32: u32 = 4;
const F32: u32 = 6;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// What it is, what the refusal says, and how a good file becomes it.
type Case = (&'static str, &'static str, fn(&mut Spoilt));

const CASES: &[Case] = &[
    ("an empty file", "not a GGUF file", |file| file.cut(0)),
    ("half a magic number", "not a GGUF file", |file| file.cut(2)),
    ("another format", "not a GGUF file", |file| file.at(0, b"PK\x03\x04")),
    ("an old version", "version 1", |file| file.at(4, &1_u32.to_le_bytes())),
    ("a version of the future", "version 99", |file| file.at(4, &99_u32.to_le_bytes())),
    ("the other byte order", "big-endian", |file| file.at(4, &3_u32.to_be_bytes())),
    ("endless tensors", "plausible", |file| file.at(8, &u64::MAX.to_le_bytes())),
    ("tensors that are not there", "cannot be loaded", |file| file.at(8, &5000_u64.to_le_bytes())),
    ("endless metadata", "plausible", |file| file.at(16, &u64::MAX.to_le_bytes())),
    ("negative counts", "plausible", |file| file.at(16, &i64::MIN.to_le_bytes())),
    ("a key that is longer than memory", "plausible", |file| file.at(24, &u64::MAX.to_le_bytes())),
    ("a key that ends behind the file", "plausible", |file| file.at(24, &(1_u64 << 40).to_le_bytes())),
    ("a text that is longer than memory", "plausible", |file| {
        file.value("general.name", &u64::MAX.to_le_bytes())
    }),
    ("a text whose length wraps around", "plausible", |file| {
        file.value("general.name", &(u64::MAX - 7).to_le_bytes());
    }),
    ("a text that is not UTF-8", "not valid text", |file| file.behind("general.name", 4 + 8, &five(0xff))),
    ("a key with a NUL inside", "not valid text", |file| file.entry("general\0x", U32, &[0; 4])),
    ("a key twice", "twice", |file| file.entry("llama.block_count", U32, &30_u32.to_le_bytes())),
    ("a value of an unknown type", "unknown type", |file| file.entry("x", 77, &[0; 4])),
    ("a list of lists", "unknown type", |file| file.entry("x", ARRAY, &list(ARRAY, 1, 12))),
    ("an endless list", "plausible", |file| file.entry("x", ARRAY, &list(U32, u64::MAX, 0))),
    ("a list that ends behind the file", "truncated", |file| file.entry("x", ARRAY, &list(12, 1 << 24, 0))),
    ("a header cut in the metadata", "truncated", |file| file.cut(5_000)),
    ("a header cut in the vocabulary", "truncated", |file| file.cut(800_000)),
    ("a header cut in the tensors", "truncated", |file| file.cut(1_780_000)),
    ("weights cut off", "truncated", |file| file.cut(50_000_000)),
    ("one byte cut off", "truncated", |file| file.cut(file.length - 1)),
    ("an alignment of zero", "alignment", |file| file.entry("general.alignment", U32, &[0; 4])),
    ("an alignment of three", "alignment", |file| file.entry("general.alignment", U32, &[3, 0, 0, 0])),
    ("an alignment of two gigabytes", "alignment", |file| {
        file.entry("general.alignment", U32, &[0, 0, 0, 0x80])
    }),
    ("an alignment that is a text", "alignment", |file| {
        file.entry("general.alignment", STRING, &sized("32"))
    }),
    ("an adapter", "not a model", |file| file.value("general.type", &sized("modul"))),
    ("no architecture", "general.architecture", |file| {
        file.behind("general.architecture", 4 + 8, &five(b' '))
    }),
    ("an architecture nobody knows", "missing", |file| file.behind("general.architecture", 4 + 8, b"hydra")),
    ("no layers", "block_count", |file| file.number("llama.block_count", 0)),
    ("more layers than llama.cpp has room for", "block_count", |file| file.number("llama.block_count", 513)),
    ("endless layers", "block_count", |file| file.number("llama.block_count", u32::MAX)),
    ("layers that are not there", "block 511", |file| file.number("llama.block_count", 512)),
    ("one layer too many", "block 30", |file| file.number("llama.block_count", 31)),
    ("no width", "embedding_length", |file| file.number("llama.embedding_length", 0)),
    ("an absurd width", "embedding_length", |file| file.number("llama.embedding_length", u32::MAX)),
    ("another width", "cannot be loaded", |file| file.number("llama.embedding_length", 640)),
    ("no window", "context_length", |file| file.number("llama.context_length", 0)),
    ("an endless window", "context_length", |file| file.number("llama.context_length", u32::MAX)),
    ("no heads", "cannot be loaded", |file| file.number("llama.attention.head_count", 0)),
    ("heads that do not divide the width", "cannot be loaded", |file| {
        file.number("llama.attention.head_count", 7);
    }),
    ("absurd heads", "cannot be loaded", |file| file.number("llama.attention.head_count", u32::MAX)),
    ("no heads for keys", "cannot be loaded", |file| file.number("llama.attention.head_count_kv", 0)),
    ("rotations wider than a head", "cannot be loaded", |file| {
        file.number("llama.rope.dimension_count", u32::MAX)
    }),
    ("an epsilon that is no number", "rms_epsilon is not a plausible", |file| {
        file.value("llama.attention.layer_norm_rms_epsilon", &f32::NAN.to_le_bytes());
    }),
    ("a negative epsilon", "rms_epsilon is not a plausible", |file| {
        file.value("llama.attention.layer_norm_rms_epsilon", &(-1_f32).to_le_bytes());
    }),
    ("experts that are not there", "expert_count", |file| file.entry("llama.expert_count", U32, &[255; 4])),
    ("an unknown pooling", "pooling_type", |file| file.entry("llama.pooling_type", U32, &[9, 0, 0, 0])),
    ("a pooling that is a text", "pooling_type", |file| {
        file.entry("llama.pooling_type", STRING, &sized("mean"))
    }),
    ("a pooling of a classifier nobody knows", "pooling_type", |file| {
        file.entry("llama.classifier.pooling_type", U32, &[255; 4]);
    }),
    ("a direction of reading that is a number", "attention.causal", |file| {
        file.entry("llama.attention.causal", U32, &[0; 4]);
    }),
    ("a width of vectors that is a text", "embedding_length_out", |file| {
        file.entry("llama.embedding_length_out", STRING, &sized("576"));
    }),
    ("one part of several", "parts", |file| file.entry("split.count", 2, &[3, 0])),
    ("no vocabulary", "no vocabulary", |file| file.behind("tokenizer.ggml.model", 4, &sized("none"))),
    ("a vocabulary of an unknown kind", "cannot be loaded", |file| {
        file.behind("tokenizer.ggml.model", 4 + 8, b"gpt9");
    }),
    ("a vocabulary of another way to split", "cannot be loaded", |file| {
        file.behind("tokenizer.ggml.pre", 4 + 8, b"xxxxxx");
    }),
    ("an endless vocabulary", "plausible", |file| {
        file.behind("tokenizer.ggml.tokens", 8, &u64::MAX.to_le_bytes())
    }),
    ("token types of another length", "cannot be loaded", |file| {
        file.behind("tokenizer.ggml.token_type", 8, &10_u64.to_le_bytes());
    }),
    ("scores that are too few", "scores", |file| {
        file.entry("tokenizer.ggml.scores", ARRAY, &list(F32, 3, 12));
    }),
    ("merges that are numbers", "cannot be loaded", |file| {
        file.behind("tokenizer.ggml.merges", 4, &U32.to_le_bytes())
    }),
    ("a tensor of five dimensions", "impossible shape", |file| {
        file.behind("blk.0.attn_q.weight", 0, &5_u32.to_le_bytes());
    }),
    ("a tensor of nothing", "impossible shape", |file| file.behind("blk.0.attn_q.weight", 4, &[0; 8])),
    ("a tensor whose size wraps around", "impossible shape", |file| {
        file.behind("blk.0.attn_q.weight", 4, &(1_u64 << 63).to_le_bytes());
    }),
    ("rows that are no whole blocks", "impossible shape", |file| {
        file.behind("blk.0.attn_q.weight", 4, &577_u64.to_le_bytes());
    }),
    ("a tensor of another shape", "cannot be loaded", |file| {
        file.behind("blk.0.attn_q.weight", 4, &288_u64.to_le_bytes());
    }),
    ("a tensor of an unknown type", "unknown type", |file| {
        file.behind("blk.0.attn_q.weight", 20, &999_u32.to_le_bytes());
    }),
    ("norms that are whole numbers", "does not have floats", |file| {
        file.behind("blk.0.attn_norm.weight", 12, &26_u32.to_le_bytes());
    }),
    ("a tensor behind the end", "truncated", |file| {
        file.behind("blk.0.attn_q.weight", 24, &(1_u64 << 40).to_le_bytes());
    }),
    ("a tensor whose end wraps around", "truncated", |file| {
        file.behind("blk.0.attn_q.weight", 24, &(u64::MAX - 31).to_le_bytes());
    }),
    ("a tensor that is not aligned", "not aligned", |file| {
        file.behind("blk.0.attn_q.weight", 24, &7_u64.to_le_bytes());
    }),
    ("a tensor twice", "twice", |file| file.rename("blk.1.attn_q.weight", "blk.0.attn_q.weight")),
    ("a tensor that is missing", "blk.7.ffn_up.weight", |file| {
        file.rename("blk.7.ffn_up.weight", "blk.7.ffn_no.weight");
    }),
];

fn five(byte: u8) -> [u8; 5] {
    [byte; 5]
}

/// A list's value: the type and number of its elements, and some zeros for them.
fn list(kind: u32, count: u64, zeros: usize) -> Vec<u8> {
    [kind.to_le_bytes().to_vec(), count.to_le_bytes().to_vec(), vec![0; zeros]].concat()
}

impl Spoilt {
    /// Another name of the same length.
    fn rename(&mut self, from: &str, to: &str) {
        let at = self.bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        self.at(at, to.as_bytes());
    }
}

#[tokio::test]
async fn every_hostile_model_is_refused_and_the_loaded_one_still_answers() {
    let good = model(SMOL);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.gguf");
    let mut runtime = Runtime::with_smol().await;
    let mut faults = Faults::default();
    for (case, says, spoil) in CASES {
        let mut file = Spoilt::from(&good);
        spoil(&mut file);
        file.write(&path);
        let outcome = runtime.load(&text(&path)).await;
        faults.judge(&mut runtime, case, outcome, &[reason::MODEL_INVALID], says).await;
    }
    assert_eq!(runtime.bare("What is the capital of France?", "").await, "The capital of France is Paris.");
    faults.report("models", CASES.len());
}
