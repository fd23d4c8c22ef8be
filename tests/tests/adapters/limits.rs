//! How many adapters there may be, on disk and in memory.

use serde_json::Value;
use synesis_tests::models::{GEMMA, adapter, model};

use super::shape::{
    QUESTIONS, Shape, answer, files, import, listed, names, ready, ready_with, shape_of, text,
};

#[test]
fn a_full_store_refuses_with_the_numbers_and_what_to_remove() {
    let (device, ctl) = ready_with("[adapters]\nmax_total_bytes = 2000000\n");
    import(&ctl, "json");
    let outcome =
        ctl.run(&["--json", "adapter", "import", adapter("pirate").to_str().unwrap()]).expect_code(1);
    let error: Value = serde_json::from_str(outcome.stderr.trim()).unwrap();
    assert_eq!(error["reason"], "DISK_FULL", "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("1859776 bytes") && message.contains("2000000"), "{message}");
    assert!(error["next_step"].as_str().unwrap().contains("(json)"), "{error}");
    assert_eq!((names(&ctl), files(&device)), (vec!["json".to_owned()], (1, 0)));
    ctl.run(&["adapter", "rm", "json"]).expect_code(0);
    import(&ctl, "pirate");
}

#[test]
fn a_store_that_may_evict_never_lets_the_active_adapter_go() {
    let (device, ctl) = ready_with("[adapters]\nmax_total_bytes = 2000000\nwhen_full = \"evict\"\n");
    import(&ctl, "json");
    import(&ctl, "pirate");
    assert_eq!((names(&ctl), files(&device)), (vec!["pirate".to_owned()], (1, 0)));
    assert!(device.log().contains("adapter evicted to make room"), "{}", device.log());
    ctl.json(&["adapter", "swap", "pirate"]);
    let outcome = ctl.run(&["adapter", "import", adapter("json").to_str().unwrap()]).expect_code(1);
    assert!(outcome.stderr.contains("there is no room"), "{}", outcome.stderr);
    assert_eq!(shape_of(text(&answer(&ctl, QUESTIONS[0], &[]))), Shape::Pirate);
}

#[test]
fn a_file_larger_than_allowed_is_refused_while_it_is_sent() {
    let (device, ctl) = ready_with("[adapters]\nmax_bytes = 1000000\n");
    let outcome = ctl.run(&["adapter", "import", adapter("json").to_str().unwrap()]).expect_code(1);
    assert!(outcome.stderr.contains("larger than 1000000 bytes"), "{}", outcome.stderr);
    assert_eq!(files(&device), (0, 0));
}

#[test]
fn memory_keeps_as_many_adapters_as_configured_and_loads_them_again_when_asked() {
    let (_device, ctl) = ready_with("[adapters]\nmax_loaded = 1\n");
    import(&ctl, "json");
    import(&ctl, "pirate");
    let loaded = |name| listed(&ctl, name)["loaded"] == true;
    ctl.json(&["adapter", "swap", "json"]);
    assert!(loaded("json") && !loaded("pirate"));
    assert_eq!(shape_of(text(&answer(&ctl, QUESTIONS[0], &["--adapter", "pirate"]))), Shape::Pirate);
    // What is done next comes after the letting go.
    ctl.json(&["adapter", "swap", "json"]);
    assert!(loaded("json") && !loaded("pirate"), "the active one stays");
    assert_eq!(shape_of(text(&answer(&ctl, QUESTIONS[0], &["--adapter", "pirate"]))), Shape::Pirate);
}

#[test]
fn an_adapter_for_another_model_is_listed_with_the_reason_and_refused() {
    let (mut device, ctl) = ready();
    import(&ctl, "json");
    let other = format!("[model]\npath = \"{}\"\n", model(GEMMA).display());
    std::fs::write(device.dir().join("conf.d/60-model.toml"), other).unwrap();
    device.restart();
    let ctl = device.ctl();
    ctl.wait_for_model();
    let why = "it was made for llama models, the loaded model is gemma3";
    assert_eq!(listed(&ctl, "json")["unusable"], why);
    for args in [&["adapter", "swap", "json"][..], &["ask", "--local", "--adapter", "json", "Hi"]] {
        let all: Vec<&str> = ["--json"].iter().chain(args).copied().collect();
        let outcome = ctl.run(&all).expect_code(1);
        assert!(outcome.stderr.contains("ADAPTER_INVALID") && outcome.stderr.contains(why), "{outcome:?}");
    }
    assert_eq!(ctl.json(&["adapter", "list"])["generation"], 0);
}
