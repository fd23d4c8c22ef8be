//! Files of models and adapters, as far as they are judged before llama.cpp sees them.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::json;

use crate::fit::{self, Available, Bound, VectorRoom};
use crate::fixture::GgufFile;
use crate::gguf::{AdapterHeader, Header, ModelHeader, TensorType, check_values, open};
use crate::peft::convert;

/// The whole file.
pub(crate) fn gguf(data: &[u8]) {
    let Ok(header) = Header::read(data, data.len() as u64) else { return };
    for (name, tensor) in header.tensors() {
        let end = header.data_start().saturating_add(tensor.offset).saturating_add(tensor.bytes);
        assert!(end <= data.len() as u64, "{name} ends behind the file");
    }
    if let Ok(model) = ModelHeader::check(&header) {
        let room = Available { bytes: 1 << 30, bound: Bound::Limit };
        let _ = fit::check(&model, u32::MAX, u32::MAX, &room).map_err(|error| error.to_string());
        let _ = fit::check(&model, fit::context_tokens(0, model.context_length), 4, &room);
        let vectors = VectorRoom::new(u32::MAX, model.context_length, model.whole);
        let _ = fit::check_vectors(&model, &vectors, &room).map_err(|error| error.to_string());
        let _ = fit::data_limit(&model, u64::MAX);
    }
    if let Ok(adapter) = AdapterHeader::check(&header, model()) {
        assert!(adapter.alpha.is_finite() && adapter.rank > 0 && !adapter.targets.is_empty());
        let file = InMemory::new(data);
        let open = open(&file.path).expect("the same header");
        assert_eq!(open.header, header);
        let _ = check_values(&open);
    }
}

pub(crate) fn gguf_seeds() -> Vec<Vec<u8>> {
    let small = GgufFile::default()
        .u32("general.alignment", 64)
        .numbers("a.numbers", &[1, -1])
        .flag("a.flag", true)
        .tensor("t", &[32, 2], TensorType::Q8_0);
    vec![model_file().bytes(), adapter_file().bytes(), small.bytes(), b"GGUF\x03\0\0\0".to_vec()]
}

/// The length of the configuration in two bytes, the configuration, the weights.
pub(crate) fn peft(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else { return };
    let (config, weights) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
    let (config, weights) = (InMemory::new(config), InMemory::new(weights));
    let Ok(conversion) = convert(&config.path, &weights.path, model()) else { return };
    let file = conversion.pieces.collect::<Result<Vec<_>, _>>().expect("its values were read").concat();
    assert_eq!(file.len() as u64, conversion.size_bytes);
    let header = Header::read(&file[..], file.len() as u64).expect("what is written is read");
    assert_eq!(AdapterHeader::check(&header, model()).expect("it fits"), conversion.header);
    check_values(&open(&InMemory::new(&file).path).expect("what is written is read"))
        .expect("finite numbers");
}

pub(crate) fn peft_seeds() -> Vec<Vec<u8>> {
    let config = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "use_rslora": true,
        "base_model_name_or_path": "org/base", "alpha_pattern": { "q_proj": 8.0 } });
    let name =
        |module: &str, half: &str| format!("base_model.model.model.layers.0.{module}.lora_{half}.weight");
    let tensors = [
        (name("self_attn.q_proj", "A"), "F32", [2, 8], 4),
        (name("self_attn.q_proj", "B"), "F32", [8, 2], 4),
        (name("mlp.up_proj", "A"), "BF16", [2, 8], 2),
        (name("mlp.up_proj", "B"), "F16", [16, 2], 2),
    ];
    let (mut header, mut data) = (json!({ "__metadata__": { "format": "pt" } }), Vec::new());
    for (name, dtype, shape, size) in tensors {
        let start = data.len();
        data.resize(start + shape[0] * shape[1] * size, 0x3c);
        header[name] = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] });
    }
    let (config, header) = (config.to_string(), header.to_string());
    let lengths = (u16::try_from(config.len()).unwrap().to_le_bytes(), (header.len() as u64).to_le_bytes());
    let weights = [&lengths.1[..], header.as_bytes(), &data].concat();
    vec![[&lengths.0[..], config.as_bytes(), &weights].concat()]
}

/// Two layers: width 8, four heads of two, two of them for keys and values.
fn model_file() -> GgufFile {
    let mut file = GgufFile::default()
        .text("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .u32("llama.embedding_length", 8)
        .u32("llama.context_length", 64)
        .u32("llama.attention.head_count", 4)
        .u32("llama.attention.head_count_kv", 2)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .text("tokenizer.ggml.model", "gpt2")
        .texts("tokenizer.ggml.tokens", &["a"]);
    for layer in 0..2 {
        file = file
            .tensor(&format!("blk.{layer}.attn_q.weight"), &[8, 8], TensorType::F32)
            .tensor(&format!("blk.{layer}.attn_k.weight"), &[8, 4], TensorType::F32)
            .tensor(&format!("blk.{layer}.ffn_up.weight"), &[8, 16], TensorType::F32);
    }
    file
}

fn adapter_file() -> GgufFile {
    GgufFile::default()
        .text("general.type", "adapter")
        .text("adapter.type", "lora")
        .text("general.architecture", "llama")
        .f32("adapter.lora.alpha", 16.0)
        .tensor("blk.0.attn_q.weight.lora_a", &[8, 2], TensorType::F32)
        .tensor("blk.0.attn_q.weight.lora_b", &[2, 8], TensorType::F16)
}

fn model() -> &'static ModelHeader {
    static MODEL: OnceLock<ModelHeader> = OnceLock::new();
    MODEL.get_or_init(|| {
        let bytes = model_file().bytes();
        let header = Header::read(&bytes[..], bytes.len() as u64).expect("a good file");
        ModelHeader::check(&header).expect("a good model")
    })
}

/// A file that is nowhere on a disk.
struct InMemory {
    path: PathBuf,
    _file: File,
}

impl InMemory {
    fn new(bytes: &[u8]) -> Self {
        let mut file = File::from(memfd_create("fuzz", MFdFlags::MFD_CLOEXEC).expect("a file"));
        file.write_all(bytes).expect("memory");
        let path = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
        Self { path, _file: file }
    }
}
