//! Files and folders that are no adapter, or not one for this model: each is refused with its reason, one by one, and
//! nothing of it is left behind.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use synesis_tests::models::adapter;

use super::shape::{files, names, peft, ready};

#[test]
fn a_file_that_is_no_adapter_for_this_model_is_refused_and_leaves_nothing_behind() {
    let (device, ctl) = ready();
    let whole = fs::read(adapter("json")).unwrap();
    let bad = device.dir().join("bad.gguf");
    let other_model = {
        // The dimension of the first tensor is changed: an adapter for a wider model.
        let mut bytes = whole.clone();
        let at = find(&bytes, &576_u64.to_le_bytes()).expect("SmolLM2 is 576 wide");
        bytes[at..at + 8].copy_from_slice(&640_u64.to_le_bytes());
        bytes
    };
    let cases: &[(&str, Vec<u8>)] = &[
        ("empty", Vec::new()),
        ("cut in the header", whole[..200].to_vec()),
        ("cut in the tensors", whole[..whole.len() - 4096].to_vec()),
        ("another magic", [b"NOPE", &whole[4..]].concat()),
        ("another model's", other_model),
        (
            "a model, not an adapter",
            fs::read(synesis_tests::models::model(synesis_tests::models::SMOLLM)).unwrap()[..1 << 20]
                .to_vec(),
        ),
    ];
    for (what, bytes) in cases {
        fs::write(&bad, bytes).unwrap();
        let outcome = ctl.run(&["adapter", "import", "bad", bad.to_str().unwrap()]);
        assert_eq!(outcome.code, 1, "{what}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("next:"), "{what}: {}", outcome.stderr);
    }
    assert_eq!((names(&ctl), files(&device)), (vec![], (0, 0)));
    ctl.run(&["ask", "--local", "--max-tokens", "4", "Hello"]).expect_code(0);
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A PEFT folder to be spoilt: the config, and the header and the numbers of the weights.
#[derive(Clone)]
struct Folder {
    config: Value,
    header: Value,
    data: Vec<u8>,
}

impl Folder {
    fn trained() -> Self {
        let config = fs::read(peft("json").join("adapter_config.json")).unwrap();
        let weights = fs::read(peft("json").join("adapter_model.safetensors")).unwrap();
        let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
        Self {
            config: serde_json::from_slice(&config).unwrap(),
            header: serde_json::from_slice(&weights[8..8 + length]).unwrap(),
            data: weights[8 + length..].to_vec(),
        }
    }

    fn with_config(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// The first tensor's entry in the header, changed.
    fn with_tensor(mut self, change: impl FnOnce(&mut Value)) -> Self {
        let tensors = self.header.as_object_mut().unwrap();
        let (_, entry) = tensors.iter_mut().find(|(name, _)| *name != "__metadata__").unwrap();
        change(entry);
        self
    }

    /// Every tensor under another name; none: it is left out.
    fn renamed(mut self, name: impl Fn(&str) -> Option<String>) -> Self {
        let tensors = std::mem::take(self.header.as_object_mut().unwrap());
        self.header = tensors.into_iter().filter_map(|(old, entry)| Some((name(&old)?, entry))).collect();
        self
    }

    fn with_number(mut self, at: usize, number: f32) -> Self {
        self.data[at * 4..at * 4 + 4].copy_from_slice(&number.to_le_bytes());
        self
    }

    fn weights(&self) -> Vec<u8> {
        let header = serde_json::to_vec(&self.header).unwrap();
        [&(header.len() as u64).to_le_bytes()[..], &header, &self.data].concat()
    }

    fn write(&self, to: &Path) {
        write(to, &serde_json::to_vec(&self.config).unwrap(), &self.weights());
    }
}

fn write(to: &Path, config: &[u8], weights: &[u8]) {
    fs::create_dir_all(to).unwrap();
    fs::write(to.join("adapter_config.json"), config).unwrap();
    fs::write(to.join("adapter_model.safetensors"), weights).unwrap();
}

#[test]
fn a_peft_folder_that_is_spoilt_is_refused_with_its_reason_and_the_model_process_lives() {
    let (device, ctl) = ready();
    let model_process = device.model_process();
    let good = Folder::trained;
    let same = |name: &str| Some(name.to_owned());
    let spoilt: Vec<(&str, Folder)> = vec![
        ("another kind of PEFT", good().with_config("peft_type", json!("IA3"))),
        ("DoRA", good().with_config("use_dora", json!(true))),
        ("biases", good().with_config("bias", json!("all"))),
        ("whole modules", good().with_config("modules_to_save", json!(["lm_head"]))),
        ("rank 0", good().with_config("r", json!(0))),
        ("an absurd rank", good().with_config("r", json!(1_000_000_000))),
        ("a rank in words", good().with_config("r", json!("eight"))),
        ("no alpha", good().with_config("lora_alpha", Value::Null)),
        ("an infinite alpha", good().with_config("lora_alpha", json!(1e300))),
        ("integers", good().with_tensor(|entry| entry["dtype"] = json!("I64"))),
        ("an unknown type", good().with_tensor(|entry| entry["dtype"] = json!("X9"))),
        ("bytes beyond the file", good().with_tensor(|entry| entry["data_offsets"][1] = json!(u64::MAX))),
        ("an end before its begin", good().with_tensor(|entry| entry["data_offsets"] = json!([64, 0]))),
        ("a shape that is not its size", good().with_tensor(|entry| entry["shape"] = json!([8, 577]))),
        (
            "a shape that overflows",
            good().with_tensor(|entry| entry["shape"] = json!([1_u64 << 63, 1_u64 << 63])),
        ),
        ("a tensor that is no object", good().with_tensor(|entry| *entry = json!(7))),
        (
            "half a pair",
            good()
                .renamed(|name| same(name).filter(|name| !name.contains("layers.3.self_attn.q_proj.lora_A"))),
        ),
        ("no tensors", good().renamed(|_| None)),
        ("a layer the model has not", good().renamed(|name| same(&name.replace("layers.29.", "layers.99.")))),
        ("a module the model has not", good().renamed(|name| same(&name.replace("q_proj", "x_proj")))),
        (
            "names of something else",
            good().renamed(|name| same(&format!("vision.{}", name.replace("lora", "other")))),
        ),
        ("a number that is none", good().with_number(4711, f32::NAN)),
        ("an infinite number", good().with_number(0, f32::INFINITY)),
    ];
    let folder = device.dir().join("spoilt");
    for (what, spoilt) in &spoilt {
        spoilt.write(&folder);
        refused(&ctl, what, &folder);
        assert_eq!(files(&device), (0, 0), "{what}");
    }
    let config = serde_json::to_vec(&good().config).unwrap();
    let weights = good().weights();
    let raw: Vec<(&str, &[u8], Vec<u8>)> = vec![
        ("a config that is no JSON", b"{", weights.clone()),
        ("a config that is no object", b"[]", weights.clone()),
        ("an empty config", b"", weights.clone()),
        ("an empty object as config", b"{}", weights.clone()),
        ("empty weights", &config, Vec::new()),
        ("weights cut in the header", &config, weights[..100].to_vec()),
        ("weights cut in the numbers", &config, weights[..weights.len() - 1].to_vec()),
        ("a header of absurd length", &config, [&u64::MAX.to_le_bytes()[..], &weights[8..]].concat()),
        ("a header that is no JSON", &config, [&weights[..8], b"nope", &weights[12..]].concat()),
        ("a GGUF file as weights", &config, fs::read(adapter("json")).unwrap()),
        ("a pickle as weights", &config, [&b"PK\x03\x04"[..], &weights[4..]].concat()),
    ];
    for (what, config, weights) in &raw {
        write(&folder, config, weights);
        refused(&ctl, what, &folder);
        assert_eq!(files(&device), (0, 0), "{what}");
    }
    assert_eq!(names(&ctl), Vec::<String>::new());
    assert_eq!(device.model_process(), model_process, "the same process is alive after all of it");
    good().write(&folder);
    ctl.run(&["adapter", "import", "good", folder.to_str().unwrap()]).expect_code(0);
}

fn refused(ctl: &synesis_tests::ctl::Ctl, what: &str, folder: &Path) {
    let outcome = ctl.run(&["--json", "adapter", "import", "spoilt", folder.to_str().unwrap()]);
    assert_eq!(outcome.code, 1, "{what}: {outcome:?}");
    let error: Value =
        serde_json::from_str(outcome.stderr.trim()).unwrap_or_else(|_| panic!("{what}: {outcome:?}"));
    assert_eq!(error["reason"], "ADAPTER_INVALID", "{what}: {error}");
    for key in ["message", "next_step"] {
        assert!(error[key].as_str().is_some_and(|text| !text.is_empty()), "{what}: {error}");
    }
}
