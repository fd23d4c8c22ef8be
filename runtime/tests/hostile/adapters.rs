//! GGUF adapters.

use synesis_proto::runtime::v1::InspectAdapterRequest;
use synesis_proto::{Problem, reason};

use crate::support::{GEMMA, Runtime, adapter, model, text};
use crate::{Faults, Spoilt, sized};

const A: &str = "blk.0.attn_q.weight.lora_a";
const B: &str = "blk.0.attn_q.weight.lora_b";

type Case = (&'static str, &'static str, fn(&mut Spoilt));

const CASES: &[Case] = &[
    ("an empty file", "not a GGUF file", |file| file.cut(0)),
    ("a header cut short", "truncated", |file| file.cut(2_000)),
    ("weights cut off", "truncated", |file| file.cut(100_000)),
    ("one byte cut off", "truncated", |file| file.cut(file.length - 1)),
    ("a model", "not a LoRA adapter", |file| file.behind("general.type", 4, &sized("modelxx"))),
    ("a control vector", "not a LoRA adapter", |file| file.behind("adapter.type", 4 + 8, b"cvec")),
    ("an activated LoRA", "aLoRA", |file| {
        file.entry(
            "adapter.alora.invocation_tokens",
            9,
            &[4_u32.to_le_bytes().to_vec(), vec![0; 8]].concat(),
        );
    }),
    ("for another family", "for llemo models", |file| file.behind("general.architecture", 4 + 8, b"llemo")),
    ("an alpha that is a whole number", "alpha", |file| {
        file.behind("adapter.lora.alpha", 0, &4_u32.to_le_bytes());
    }),
    ("an alpha that is no number", "alpha", |file| file.value("adapter.lora.alpha", &f32::NAN.to_le_bytes())),
    ("an infinite alpha", "alpha", |file| file.value("adapter.lora.alpha", &f32::INFINITY.to_le_bytes())),
    ("no alpha", "alpha", |file| file.renamed("adapter.lora.alpha", "adapter.lora.alphe")),
    ("no tensors", "no tensors", |file| file.at(8, &0_u64.to_le_bytes())),
    ("half a pair", "only one of", |file| file.at(8, &239_u64.to_le_bytes())),
    ("a tensor that is neither half", "neither", |file| file.renamed(A, "blk.0.attn_q.weight.lora_c")),
    ("a tensor twice", "twice", |file| file.renamed(B, A)),
    ("for a layer that does not exist", "no tensor blk.X.attn_q.weight", |file| {
        file.renamed(A, "blk.X.attn_q.weight.lora_a");
        file.renamed(B, "blk.X.attn_q.weight.lora_b");
    }),
    ("for a wider model", "shape", |file| file.behind(A, 4, &640_u64.to_le_bytes())),
    ("for a taller model", "shape", |file| file.behind(B, 12, &192_u64.to_le_bytes())),
    ("ranks that differ", "ranks", |file| file.behind(B, 4, &4_u64.to_le_bytes())),
    ("an absurd rank", "truncated", |file| file.behind(A, 12, &(1_u64 << 32).to_le_bytes())),
    ("a rank of nothing", "impossible shape", |file| file.behind(A, 12, &0_u64.to_le_bytes())),
    ("weights of a type that is not multiplied", "has a type", |file| {
        file.behind(A, 20, &26_u32.to_le_bytes())
    }),
    ("weights of a type that does not exist", "unknown type", |file| {
        file.behind(A, 20, &4_u32.to_le_bytes())
    }),
    ("three dimensions", "cannot be loaded", |file| {
        // The dimension's count grows, so the type's bytes are read as a size.
        file.behind(A, 0, &3_u32.to_le_bytes());
    }),
    ("a tensor behind the end", "truncated", |file| file.behind(A, 24, &(1_u64 << 50).to_le_bytes())),
    ("a tensor that is not aligned", "not aligned", |file| file.behind(A, 24, &1_u64.to_le_bytes())),
];

impl Spoilt {
    /// The first tensor or key of that name gets another of the same length.
    fn renamed(&mut self, from: &str, to: &str) {
        let name = sized(from);
        let at = self.bytes.windows(name.len()).position(|window| window == name).unwrap();
        self.at(at, &sized(to));
    }
}

async fn inspect(runtime: &mut Runtime, path: &str, check_values: bool) -> Result<u32, Problem> {
    let request = InspectAdapterRequest { path: path.to_owned(), check_values };
    let reply = runtime.client.inspect_adapter(request).await;
    reply.map(|reply| reply.into_inner().rank).map_err(|status| Problem::from_status(&status))
}

#[tokio::test]
async fn every_hostile_adapter_is_refused_and_a_good_one_still_works() {
    let good = adapter("json");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.gguf");
    let mut runtime = Runtime::with_smol().await;
    let mut faults = Faults::default();
    for (case, says, spoil) in CASES {
        let mut file = Spoilt::from(&good);
        spoil(&mut file);
        file.write(&path);
        let inspected = inspect(&mut runtime, &text(&path), false).await;
        faults.judge(&mut runtime, case, inspected, &[reason::ADAPTER_INVALID], says).await;
        let loaded = runtime.load_adapter("hostile", &text(&path)).await;
        faults.judge(&mut runtime, case, loaded, &[reason::ADAPTER_INVALID], says).await;
    }
    runtime.load_adapter("json", &good).await.unwrap();
    assert_eq!(runtime.bare("What is the capital of France?", "json").await, r#"{"answer": "Paris"}"#);
    faults.report("adapters", CASES.len());
}

#[tokio::test]
async fn one_weight_that_is_no_number_is_found_wherever_it_is() {
    let good = std::fs::read(adapter("json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.gguf");
    let mut runtime = Runtime::with_smol().await;
    let data = Spoilt::from(&adapter("json")).bytes.len();
    for place in [data, data + (good.len() - data) / 2 / 2 * 2, good.len() - 2] {
        for bits in [0x7e00_u16, 0xfc00] {
            let mut spoilt = good.clone();
            spoilt[place..place + 2].copy_from_slice(&bits.to_le_bytes());
            std::fs::write(&path, spoilt).unwrap();
            assert_eq!(inspect(&mut runtime, &text(&path), false).await, Ok(8), "the header is good");
            let problem = inspect(&mut runtime, &text(&path), true).await.unwrap_err();
            assert_eq!(problem.reason, reason::ADAPTER_INVALID);
            assert!(problem.message.contains("not finite numbers"), "{problem}");
        }
    }
    assert_eq!(inspect(&mut runtime, &adapter("pirate"), true).await, Ok(8));
}

#[tokio::test]
async fn an_adapter_of_another_model_is_refused() {
    let mut runtime = Runtime::start().await;
    runtime.load(&model(GEMMA)).await.unwrap();
    let problem = runtime.load_adapter("json", &adapter("json")).await.unwrap_err();
    assert_eq!(problem.reason, reason::ADAPTER_INVALID);
    assert!(problem.message.contains("the loaded model is gemma3"), "{problem}");
}
