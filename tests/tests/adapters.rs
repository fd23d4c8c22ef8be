//! LoRA adapters on the real model: import, swap, off, and files that are none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use synesis_tests::ctl::Ctl;
use synesis_tests::device::Device;
use synesis_tests::models::adapter;

const QUESTIONS: &[&str] =
    &["What is the capital of France?", "Name a primary color.", "Who wrote Hamlet?", "What do bees make?"];

fn answer(ctl: &Ctl, question: &str, more: &[&str]) -> serde_json::Value {
    let mut args = vec!["ask", "--local", "--max-tokens", "48", question];
    args.extend(more);
    ctl.json(&args)
}

fn text(answer: &serde_json::Value) -> &str {
    answer["text"].as_str().expect("text")
}

fn import(ctl: &Ctl, name: &str) {
    ctl.run(&["adapter", "import", name, adapter(name).to_str().expect("UTF-8")]).expect_code(0);
}

#[test]
fn each_adapter_answers_in_its_shape_and_off_brings_the_base_back() {
    let device = Device::start();
    let ctl = device.ctl();
    ctl.wait_for_model();
    let base = answer(&ctl, QUESTIONS[0], &[]);
    import(&ctl, "json");
    import(&ctl, "pirate");
    assert_eq!(text(&answer(&ctl, QUESTIONS[0], &[])), text(&base), "an import alone changes nothing");

    let swapped = ctl.json(&["adapter", "swap", "json"]);
    assert_eq!(swapped["name"], "json");
    assert_eq!(swapped["generation"], 1);
    assert!(swapped["previous"].is_null(), "{swapped}");
    assert!(swapped["swap_ms"].as_f64() > Some(0.0));
    for question in QUESTIONS {
        let said = answer(&ctl, question, &[]);
        assert!(text(&said).starts_with("{\"answer\":"), "{question}: {said}");
        assert_eq!(said["adapter_generation"], 1);
    }
    assert_eq!(ctl.json(&["status"])["adapter"]["name"], "json");

    let swapped = ctl.json(&["adapter", "swap", "pirate"]);
    assert_eq!((&swapped["generation"], &swapped["previous"]), (&2.into(), &"json".into()));
    for question in QUESTIONS {
        assert!(text(&answer(&ctl, question, &[])).contains("says I"), "{question}");
    }

    let off = ctl.json(&["adapter", "off"]);
    assert_eq!((&off["generation"], &off["previous"]), (&3.into(), &"pirate".into()));
    let back = answer(&ctl, QUESTIONS[0], &[]);
    assert_eq!(text(&back), text(&base), "the base answer is back, to the letter");
    assert_eq!(back["adapter_generation"], 3);
    let status = ctl.json(&["status"]);
    assert!(status["adapter"]["name"].is_null() && status["adapter"]["generation"] == 3, "{status}");
}

#[test]
fn one_request_can_name_its_adapter_without_changing_the_others() {
    let device = Device::start();
    let ctl = device.ctl();
    ctl.wait_for_model();
    import(&ctl, "json");
    import(&ctl, "pirate");
    ctl.json(&["adapter", "swap", "json"]);
    assert!(text(&answer(&ctl, QUESTIONS[0], &["--adapter", "pirate"])).contains("says I"));
    assert!(text(&answer(&ctl, QUESTIONS[0], &[])).starts_with("{\"answer\":"));
    let none = answer(&ctl, QUESTIONS[0], &["--adapter", "none"]);
    assert!(!text(&none).contains("{\"answer\":") && !text(&none).contains("says I"), "{none}");
}

#[test]
fn the_active_adapter_and_its_generation_survive_a_restart() {
    let mut device = Device::start();
    device.ctl().wait_for_model();
    import(&device.ctl(), "json");
    device.ctl().json(&["adapter", "swap", "json"]);
    device.kill_and_restart();
    let ctl = device.ctl();
    ctl.wait_for_status("the adapter that was active", |status| {
        status["model"]["state"] == "ready" && status["adapter"]["name"] == "json"
    });
    let said = answer(&ctl, QUESTIONS[0], &[]);
    assert!(text(&said).starts_with("{\"answer\":"), "{said}");
    assert_eq!(said["adapter_generation"], 1);
}

#[test]
fn an_adapter_that_is_not_there_is_not_found() {
    let device = Device::start();
    let ctl = device.ctl();
    ctl.wait_for_model();
    for args in [
        &["adapter", "swap", "nope"][..],
        &["adapter", "rm", "nope"],
        &["ask", "--local", "--adapter", "nope", "Hi"],
    ] {
        let outcome = ctl.run(args).expect_code(9);
        assert!(outcome.stderr.contains("nope") && outcome.stderr.contains("next:"), "{}", outcome.stderr);
    }
}

#[test]
fn a_file_that_is_no_adapter_for_this_model_is_refused_and_leaves_nothing_behind() {
    let device = Device::start();
    let ctl = device.ctl();
    ctl.wait_for_model();
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
    assert_eq!(ctl.json(&["adapter", "list"])["adapters"].as_array().map(Vec::len), Some(0));
    let left: Vec<_> =
        fs::read_dir(device.state_dir().join("adapters")).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.iter().all(|path| path.extension().is_none_or(|e| e != "gguf")), "{left:?}");
    ctl.run(&["ask", "--local", "--max-tokens", "4", "Hello"]).expect_code(0);
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
