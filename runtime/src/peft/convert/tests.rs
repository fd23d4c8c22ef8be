use std::fs;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::*;
use crate::gguf::AdapterFault;
use crate::gguf::fixture::GgufFile;

const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj";

/// A model of two layers: width 8, four heads of two, two of them for keys and values.
pub(in crate::peft) fn model(architecture: &str) -> ModelHeader {
    let key = |name: &str| format!("{architecture}.{name}");
    let mut file = GgufFile::default()
        .text("general.architecture", architecture)
        .u32(&key("block_count"), 2)
        .u32(&key("embedding_length"), 8)
        .u32(&key("context_length"), 64)
        .u32(&key("attention.head_count"), 4)
        .u32(&key("attention.head_count_kv"), 2)
        .text("tokenizer.ggml.model", "gpt2")
        .texts("tokenizer.ggml.tokens", &["a"]);
    for layer in 0..2 {
        file = file
            .tensor(&format!("blk.{layer}.attn_q.weight"), &[8, 8], TensorType::F32)
            .tensor(&format!("blk.{layer}.attn_k.weight"), &[8, 4], TensorType::F32)
            .tensor(&format!("blk.{layer}.ffn_up.weight"), &[8, 16], TensorType::F32);
    }
    let bytes = file.bytes();
    ModelHeader::check(&Header::read(bytes.as_slice(), bytes.len() as u64).unwrap()).unwrap()
}

/// A folder with an adapter.
struct Adapter {
    folder: TempDir,
    config: Value,
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl Adapter {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            config: json!({
                "peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none",
                "base_model_name_or_path": "org/base",
            }),
            header: Map::new(),
            data: Vec::new(),
        }
    }

    fn tensor(mut self, name: &str, shape: [usize; 2], value: impl Fn(usize) -> f32) -> Self {
        let start = self.data.len();
        self.data.extend((0..shape[0] * shape[1]).flat_map(|index| value(index).to_le_bytes()));
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, self.data.len()] });
        self.header.insert(name.to_owned(), entry);
        self
    }

    /// Both halves for a module of 8 inputs, of rank 2; the second one counts its rows.
    fn pair(self, module: &str, outputs: usize) -> Self {
        self.tensor(&format!("{module}.lora_A.weight"), [2, 8], |index| index as f32).tensor(
            &format!("{module}.lora_B.weight"),
            [outputs, 2],
            |index| (index / 2) as f32,
        )
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    fn convert_for(&self, model: &ModelHeader) -> Result<Conversion, PeftError> {
        let header = Value::Object(self.header.clone()).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(&self.data);
        let [config, weights] =
            ["adapter_config.json", "adapter_model.safetensors"].map(|name| self.folder.path().join(name));
        fs::write(&config, self.config.to_string()).unwrap();
        fs::write(&weights, bytes).unwrap();
        convert(&config, &weights, model)
    }

    fn convert(&self) -> Result<Conversion, PeftError> {
        self.convert_for(&model("llama"))
    }
}

/// The file, its header, and where its data begin.
fn file(conversion: Conversion) -> (Vec<u8>, Header) {
    let bytes: Vec<u8> = conversion.pieces.map(Result::unwrap).collect::<Vec<_>>().concat();
    assert_eq!(bytes.len() as u64, conversion.size_bytes);
    let header = Header::read(bytes.as_slice(), bytes.len() as u64).unwrap();
    (bytes, header)
}

fn values(bytes: &[u8], header: &Header, name: &str) -> Vec<f32> {
    let tensor = &header.tensors()[name];
    let start = (header.data_start() + tensor.offset) as usize;
    let data = &bytes[start..start + tensor.bytes as usize];
    let kind = if tensor.kind == TensorType::F32 { "F32" } else { "F16" };
    super::super::float::FloatType::from_name(kind).unwrap().decode(data)
}

#[test]
fn an_adapter_becomes_a_gguf_file_for_the_model() {
    let up = "base_model.model.model.layers.1.mlp.up_proj";
    let conversion = Adapter::new().pair(up, 16).convert().unwrap();
    assert_eq!(conversion.base_model, "org/base");
    assert_eq!((conversion.header.rank, conversion.header.alpha, conversion.header.tensors), (2, 4.0, 2));
    let (bytes, header) = file(conversion);
    assert_eq!(header.text("general.architecture"), Some("llama"));
    assert_eq!(header.tensors()["blk.1.ffn_up.weight.lora_b"].shape, [2, 16, 1, 1]);
    let a: Vec<f32> = (0..16_u8).map(f32::from).collect();
    assert_eq!(values(&bytes, &header, "blk.1.ffn_up.weight.lora_a"), a);
}

#[test]
fn the_rows_of_llamas_heads_are_interleaved_and_no_others() {
    let rows = |architecture: &str| {
        let (bytes, header) = file(Adapter::new().pair(Q, 8).convert_for(&model(architecture)).unwrap());
        let rows = values(&bytes, &header, "blk.0.attn_q.weight.lora_b");
        rows.into_iter().step_by(2).collect::<Vec<f32>>()
    };
    // Heads of two rows stay as they are.
    assert_eq!(rows("llama"), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    assert_eq!(rows("qwen2"), rows("llama"));
    assert_eq!(
        interleaved(&[0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5], 2),
        [0.0, 0.5, 2.0, 2.5, 1.0, 1.5, 3.0, 3.5]
    );
}

#[test]
fn a_module_with_an_alpha_of_its_own_is_multiplied() {
    let adapter = Adapter::new().pair(Q, 8).with("alpha_pattern", json!({ "q_proj": 2 }));
    let (bytes, header) = file(adapter.convert().unwrap());
    let rows = values(&bytes, &header, "blk.0.attn_q.weight.lora_b");
    assert_eq!(rows[..4], [0.0, 0.0, 0.5, 0.5]);
}

#[test]
fn values_too_large_for_16_bits_keep_32() {
    let adapter = Adapter::new().tensor(&format!("{Q}.lora_A.weight"), [2, 8], |_| 1e5).tensor(
        &format!("{Q}.lora_B.weight"),
        [8, 2],
        |_| 1.0,
    );
    let (bytes, header) = file(adapter.convert().unwrap());
    assert_eq!(values(&bytes, &header, "blk.0.attn_q.weight.lora_a"), [1e5; 16]);
    assert_eq!(header.tensors()["blk.0.attn_q.weight.lora_b"].kind, TensorType::F16);
}

#[test]
fn values_that_are_not_finite_are_refused_with_the_tensor() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let adapter = Adapter::new()
            .tensor(&format!("{Q}.lora_A.weight"), [2, 8], |index| if index == 15 { bad } else { 0.0 })
            .tensor(&format!("{Q}.lora_B.weight"), [8, 2], |_| 0.0);
        let error = adapter.convert().unwrap_err();
        assert!(matches!(&error, PeftError::NotFinite(name) if name.ends_with("lora_A.weight")), "{error}");
    }
    let overflowing = Adapter::new()
        .tensor(&format!("{Q}.lora_A.weight"), [2, 8], |_| 0.0)
        .tensor(&format!("{Q}.lora_B.weight"), [8, 2], |_| f32::MAX)
        .with("alpha_pattern", json!({ "q_proj": 400 }));
    assert!(matches!(overflowing.convert(), Err(PeftError::NotFinite(_))));
}

#[test]
fn an_adapter_of_another_model_is_refused_with_the_reason() {
    let wide = Adapter::new().tensor(&format!("{Q}.lora_A.weight"), [2, 9], |_| 0.0).tensor(
        &format!("{Q}.lora_B.weight"),
        [8, 2],
        |_| 0.0,
    );
    assert!(matches!(wide.convert(), Err(PeftError::Fault(AdapterFault::Shape(_)))));
    let tall = Adapter::new().pair(Q, 16);
    assert!(matches!(tall.convert(), Err(PeftError::Fault(AdapterFault::Shape(_)))));
    let odd = Adapter::new().pair(Q, 9);
    assert!(matches!(odd.convert(), Err(PeftError::Shape(_))));
    let deep = Adapter::new().pair("base_model.model.model.layers.7.mlp.up_proj", 16);
    assert!(matches!(deep.convert(), Err(PeftError::Fault(AdapterFault::UnknownTarget(_)))));
    let ranks = Adapter::new().tensor(&format!("{Q}.lora_A.weight"), [2, 8], |_| 0.0).tensor(
        &format!("{Q}.lora_B.weight"),
        [8, 3],
        |_| 0.0,
    );
    assert!(matches!(ranks.convert(), Err(PeftError::Fault(AdapterFault::Rank { .. }))));
    let error = Adapter::new().pair(Q, 8).convert_for(&model("mamba")).unwrap_err();
    assert!(matches!(&error, PeftError::Architecture(name) if name == "mamba"), "{error}");
}

#[test]
fn tensors_that_do_not_belong_are_refused_by_name() {
    let unknown = Adapter::new().pair(Q, 8).tensor("base_model.model.model.norm.weight", [1, 8], |_| 0.0);
    assert!(matches!(unknown.convert(), Err(PeftError::UnknownTensor(_))));
    let twice = Adapter::new().pair(Q, 8).pair("base_model.model.layers.0.self_attn.q_proj", 8);
    assert!(matches!(twice.convert(), Err(PeftError::SameTarget(_, _))));
    let half = Adapter::new().tensor(&format!("{Q}.lora_A.weight"), [2, 8], |_| 0.0);
    assert!(matches!(half.convert(), Err(PeftError::Fault(AdapterFault::HalfPair(_)))));
    assert!(matches!(Adapter::new().convert(), Err(PeftError::Fault(AdapterFault::Empty))));
}

#[test]
fn a_file_that_shrinks_in_between_ends_the_pieces_with_an_error() {
    let adapter = Adapter::new().pair(Q, 8);
    let conversion = adapter.convert().unwrap();
    fs::File::options()
        .write(true)
        .open(adapter.folder.path().join("adapter_model.safetensors"))
        .unwrap()
        .set_len(100)
        .unwrap();
    let pieces: Vec<_> = conversion.pieces.collect();
    assert!(matches!(pieces.as_slice(), [Err(PeftError::Safetensors(_))]), "{pieces:?}");
}

#[test]
fn missing_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = convert(&folder.path().join("a"), &folder.path().join("b"), &model("llama")).unwrap_err();
    assert!(error.to_string().starts_with("adapter_config.json cannot be read"), "{error}");
}
