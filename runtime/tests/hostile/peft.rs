//! PEFT adapters, which are converted in the process.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use synesis_proto::runtime::v1::convert_adapter_event::Event;
use synesis_proto::runtime::v1::{ConvertAdapterRequest, ConvertedAdapter};
use synesis_proto::{Problem, reason};

use crate::Faults;
use crate::support::{Runtime, adapter, text};

const Q_A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";

/// A PEFT adapter being spoilt.
struct Files {
    config: String,
    header: Value,
    data: Vec<u8>,
    /// Bytes of the header's length, when they are not the truth.
    length: Option<u64>,
}

impl Files {
    fn good() -> Self {
        let folder = adapter("json");
        let folder = Path::new(&folder).with_extension("");
        let weights = fs::read(folder.join("adapter_model.safetensors")).unwrap();
        let length = usize::try_from(u64::from_le_bytes(*weights.first_chunk().unwrap())).unwrap();
        Self {
            config: fs::read_to_string(folder.join("adapter_config.json")).unwrap(),
            header: serde_json::from_slice(&weights[8..8 + length]).unwrap(),
            data: weights[8 + length..].to_vec(),
            length: None,
        }
    }

    fn set(&mut self, key: &str, value: Value) {
        let mut config: Value = serde_json::from_str(&self.config).unwrap();
        config[key] = value;
        self.config = config.to_string();
    }

    fn rename(&mut self, from: &str, to: &str) {
        let tensors = self.header.as_object_mut().unwrap();
        let tensor = tensors.remove(from).unwrap();
        tensors.insert(to.to_owned(), tensor);
    }

    fn write(&self, folder: &Path) -> ConvertAdapterRequest {
        let [config, weights] =
            ["adapter_config.json", "adapter_model.safetensors"].map(|name| folder.join(name));
        fs::write(&config, &self.config).unwrap();
        let header = self.header.to_string();
        let length = self.length.unwrap_or(header.len() as u64);
        fs::write(&weights, [&length.to_le_bytes(), header.as_bytes(), &self.data].concat()).unwrap();
        ConvertAdapterRequest { config_path: text(&config), weights_path: text(&weights) }
    }
}

type Case = (&'static str, &'static str, fn(&mut Files));

const CASES: &[Case] = &[
    ("a configuration that is empty", "adapter_config.json is not valid", |files| files.config.clear()),
    ("a configuration that is a list", "adapter_config.json is not valid", |files| {
        files.config = "[]".into()
    }),
    ("a configuration nested without end", "adapter_config.json is not valid", |files| {
        files.config = format!("{{\"a\":{}", "[".repeat(500_000));
    }),
    ("a configuration that is too long", "plausible", |files| files.config = " ".repeat(2 << 20)),
    ("another method", "the method", |files| files.set("peft_type", json!("IA3"))),
    ("DoRA", "DoRA", |files| files.set("use_dora", json!(true))),
    ("trained biases", "biases", |files| files.set("bias", json!("lora_only"))),
    ("whole modules", "modules_to_save", |files| files.set("modules_to_save", json!(["lm_head"]))),
    ("a rank of nothing", "r of", |files| files.set("r", json!(0))),
    ("an absurd alpha", "lora_alpha", |files| files.set("lora_alpha", json!(1e308))),
    ("a header longer than memory", "plausible", |files| files.length = Some(u64::MAX)),
    ("a header longer than the file", "after the end", |files| files.length = Some(4_000_000)),
    ("a header cut short", "not valid", |files| files.length = Some(100)),
    ("no header", "not valid", |files| files.length = Some(0)),
    ("no tensors", "no tensors", |files| {
        files.header = json!({});
        files.data.clear();
    }),
    ("weights cut off", "truncated", |files| files.data.truncate(1000)),
    ("bytes behind the end", "behind the last", |files| files.data.extend([0; 100])),
    ("tensors that overlap", "overlap", |files| {
        files.header[Q_A]["data_offsets"] = json!([0, 8 * 576 * 4]);
    }),
    ("a size that wraps around", "impossible shape", |files| {
        files.header[Q_A]["shape"] = json!([1_u64 << 40, 1_u64 << 40]);
    }),
    ("a negative size", "not valid", |files| files.header[Q_A]["shape"] = json!([-8, 576])),
    ("a tensor of three dimensions", "impossible shape", |files| {
        files.header[Q_A]["shape"] = json!([8, 24, 24])
    }),
    ("another type", "I32", |files| files.header[Q_A]["dtype"] = json!("I32")),
    ("a type of another size", "do not match", |files| files.header[Q_A]["dtype"] = json!("F16")),
    ("a tensor of another model", "shape", |files| files.header[Q_A]["shape"] = json!([576, 8])),
    ("a tensor nobody knows", "not a LoRA weight", |files| {
        files.rename(Q_A, "base_model.model.model.norm.weight")
    }),
    ("a layer that does not exist", "no tensor blk.99.attn_q.weight", |files| {
        let b = Q_A.replace("lora_A", "lora_B");
        files.rename(Q_A, &Q_A.replace("layers.0.", "layers.99."));
        files.rename(&b, &b.replace("layers.0.", "layers.99."));
    }),
    ("half a pair", "only one of", |files| files.rename(Q_A, &Q_A.replace("layers.0.", "layers.77."))),
    ("a weight that is no number", "not finite numbers", |files| {
        let at = files.data.len() / 8 * 4;
        files.data[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    }),
    ("an infinite weight", "not finite numbers", |files| {
        files.data[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    }),
];

async fn convert(
    runtime: &mut Runtime,
    request: ConvertAdapterRequest,
) -> Result<(ConvertedAdapter, Vec<u8>), Problem> {
    let refused = |status: tonic::Status| Problem::from_status(&status);
    let mut events = runtime.client.convert_adapter(request).await.map_err(refused)?.into_inner();
    let (mut adapter, mut bytes) = (None, Vec::new());
    while let Some(event) = events.message().await.map_err(refused)? {
        match event.event.expect("an event") {
            Event::Adapter(announced) => assert!(adapter.replace(announced).is_none() && bytes.is_empty()),
            Event::Data(data) => {
                assert!(adapter.is_some() && (1..=1 << 20).contains(&data.len()));
                bytes.extend(data);
            }
        }
    }
    Ok((adapter.expect("what it is comes first"), bytes))
}

#[tokio::test]
async fn every_hostile_peft_adapter_is_refused_before_anything_is_announced() {
    let folder = tempfile::tempdir().unwrap();
    let mut runtime = Runtime::with_smol().await;
    let mut faults = Faults::default();
    for (case, says, spoil) in CASES {
        let mut files = Files::good();
        spoil(&mut files);
        let outcome = convert(&mut runtime, files.write(folder.path())).await;
        faults.judge(&mut runtime, case, outcome, &[reason::ADAPTER_INVALID], says).await;
    }
    faults.report("PEFT adapters", CASES.len());
}

#[tokio::test]
async fn a_good_peft_adapter_is_converted_and_answers_in_its_shape() {
    let folder = tempfile::tempdir().unwrap();
    let mut runtime = Runtime::with_smol().await;
    let request = Files::good().write(folder.path());
    let (adapter, bytes) = convert(&mut runtime, request).await.unwrap();
    assert_eq!(adapter.size_bytes, bytes.len() as u64);
    assert_eq!(adapter.base_model, "HuggingFaceTB/SmolLM2-135M-Instruct");
    assert_eq!(adapter.info.unwrap().rank, 8);
    let path = folder.path().join("converted.gguf");
    fs::write(&path, bytes).unwrap();
    runtime.load_adapter("converted", &text(&path)).await.unwrap();
    assert_eq!(runtime.bare("What is the capital of France?", "converted").await, r#"{"answer": "Paris"}"#);
}
