//! Model files end to end: pulled from a fake hub that speaks the real endpoints, from an address, and from the caller;
//! loaded while answers go on; refused, damaged, too large, deadly. The swap itself runs on the real models.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use synesis_tests::ctl::{Ctl, Outcome};
use synesis_tests::device::Device;
use synesis_tests::hub::{COMMIT, Fault, Hub, TOKEN};
use synesis_tests::models::{GEMMA, SMOLLM, model};
use synesis_tests::process::kill_pid;

/// A "model" of the scripted engine, padded so that it can be cut.
fn script(more: Value) -> Vec<u8> {
    let mut script = json!({"pad": "x".repeat(200_000)});
    for (key, value) in more.as_object().expect("an object") {
        script[key] = value.clone();
    }
    script.to_string().into_bytes()
}

fn scripted(config: &str) -> Device {
    let device = Device::scripted("{}", config);
    device.ctl().wait_for_model();
    device
}

/// Expects a refusal with this reason and a next step.
#[track_caller]
fn refused(ctl: &Ctl, args: &[&str], code: i32, reason: &str) -> Outcome {
    let mut all = vec!["--json"];
    all.extend(args);
    let outcome = ctl.run(&all).expect_code(code);
    let error: Value =
        serde_json::from_str(outcome.stderr.lines().last().unwrap_or_default()).expect("an error object");
    assert_eq!(error["reason"], reason, "{}", outcome.stderr);
    assert!(!error["next_step"].as_str().unwrap_or_default().is_empty(), "{}", outcome.stderr);
    outcome
}

fn pulled(ctl: &Ctl) -> Vec<String> {
    let list = ctl.json(&["model", "list"]);
    let models = list["models"].as_array().expect("a list");
    models
        .iter()
        .filter(|model| model["configured"] == false)
        .map(|model| model["name"].as_str().expect("a name").to_owned())
        .collect()
}

fn parts(device: &Device) -> Vec<PathBuf> {
    let folder = device.state_dir().join("models/partial");
    fs::read_dir(folder).expect("the folder").flatten().map(|entry| entry.path()).collect()
}

fn answers(ctl: &Ctl) {
    ctl.run(&["ask", "--local", "--max-tokens", "4", "Hello"]).expect_code(0);
}

#[test]
fn a_model_is_pulled_over_a_broken_connection_and_takes_over_while_the_old_one_finishes_its_answer() {
    let bytes = fs::read(model(GEMMA)).unwrap();
    let hub = Hub::start(&[("gemma.gguf", &bytes)]);
    // However slow the machine is, the answer in flight has the time it needs.
    let mut device = Device::with_config("[model]\ndrain_s = 600\n");
    let ctl = device.ctl();
    ctl.wait_for_model();
    let before = ctl.json(&["model", "info"])["name"].clone();
    hub.fault(Fault::CutAfter(5_000_000));
    let done = ctl.json(&["model", "pull", &hub.url("gemma.gguf"), "--name", "gemma"]);
    assert_eq!((&done["type"], &done["name"]), (&"done".into(), &"gemma".into()));
    assert_eq!(
        (done["size_bytes"].as_u64(), &done["architecture"]),
        (Some(bytes.len() as u64), &"gemma3".into())
    );
    let seen = hub.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[0].range.is_none());
    let range = seen[1].range.clone().expect("only the rest is fetched again");
    assert!(range.starts_with("bytes=") && range != "bytes=0-" && seen[1].if_range.is_some(), "{seen:?}");
    assert!(parts(&device).is_empty());

    let mut ask = ctl.stream(&[
        "--json",
        "ask",
        "--local",
        "--max-tokens",
        "120",
        "Tell me a long story about the sea.",
    ]);
    assert_eq!(ask.next_json().expect("it has begun")["type"], "delta");
    let loaded = ctl.json(&["model", "load", "gemma"]);
    assert_eq!((&loaded["name"], &loaded["previous"]), (&"gemma".into(), &before));
    assert_eq!(loaded["gap_ms"], 0, "{loaded}");
    let info = ctl.json(&["model", "info"]);
    assert_eq!((&info["name"], &info["architecture"]), (&"gemma".into(), &"gemma3".into()));
    assert_eq!(ask.finish().expect_code(0).json()["type"], "done", "the answer in flight is complete");
    // The file is a base model without a chat template, which only its own process can know.
    let outcome = ctl.run(&["ask", "--local", "Hello"]);
    assert!(outcome.stderr.contains("no chat template"), "{}", outcome.stderr);
    refused(&ctl, &["model", "rm", "gemma"], 1, "MODEL_IN_USE");

    device.kill_and_restart();
    let ctl = device.ctl();
    assert_eq!(ctl.wait_for_model()["model"]["name"], "gemma", "the choice survives a crash");
    assert_eq!(ctl.json(&["model", "load"])["name"], before, "and is undone by loading nothing");
    answers(&ctl);
    ctl.run(&["model", "rm", "gemma"]).expect_code(0);
    assert!(pulled(&ctl).is_empty());
    refused(&ctl, &["model", "load", "gemma"], 9, "MODEL_NOT_FOUND");
    refused(&ctl, &["model", "rm", "gemma"], 9, "MODEL_NOT_FOUND");
}

#[test]
fn a_damaged_model_file_is_not_taken_in_and_one_damaged_later_does_not_end_the_old_one() {
    let device = Device::start();
    let ctl = device.ctl();
    ctl.wait_for_model();
    let whole = fs::read(model(SMOLLM)).unwrap();
    let bad = device.dir().join("bad.gguf");
    for bytes in [&whole[..whole.len() / 2], &whole[..100], b"no model at all"] {
        fs::write(&bad, bytes).unwrap();
        refused(&ctl, &["model", "pull", bad.to_str().unwrap()], 1, "MODEL_INVALID");
    }
    fs::write(&bad, b"").unwrap();
    refused(&ctl, &["model", "pull", bad.to_str().unwrap()], 1, "MODEL_INVALID");
    assert!(pulled(&ctl).is_empty() && parts(&device).is_empty());

    let done = ctl.json(&["model", "pull", model(SMOLLM).to_str().unwrap(), "--name", "twin"]);
    let stored = device.state_dir().join(format!("models/{}.gguf", done["sha256"].as_str().unwrap()));
    fs::write(&stored, &whole[..whole.len() / 2]).unwrap();
    let process = device.model_process();
    let outcome = refused(&ctl, &["model", "load", "twin"], 1, "MODEL_INVALID");
    assert!(outcome.stderr.contains("goes on answering"), "{}", outcome.stderr);
    assert_eq!(device.model_process(), process, "it never stopped");
    answers(&ctl);
}

#[test]
fn an_interrupted_pull_leaves_a_part_that_nobody_lists_and_the_next_one_goes_on_with_it() {
    let bytes = script(json!({}));
    let hub = Hub::start(&[("tiny.gguf", &bytes)]);
    let device = scripted("");
    let ctl = device.ctl();
    hub.fault(Fault::HoldAfter(100_000));
    let mut pull = ctl.stream(&["model", "pull", &hub.url("tiny.gguf")]);
    hub.wait_for_hold();
    // What the fake has sent is on its way; the part is there once the first bytes have come.
    while parts(&device).iter().all(|part| fs::metadata(part).map_or(0, |found| found.len()) < 50_000) {
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    kill(Pid::from_raw(pull.pid() as i32), Signal::SIGINT).unwrap();
    let ended = pull.finish().expect_code(130);
    assert!(ended.stderr.contains("is kept"), "{}", ended.stderr);
    hub.release();
    assert!(pulled(&ctl).is_empty(), "half a file is no model");

    let events = ctl.run(&["--json", "model", "pull", &hub.url("tiny.gguf")]).expect_code(0).json_lines();
    assert_eq!(events[0]["type"], "started");
    assert!(events[0]["received_bytes"].as_u64() >= Some(50_000), "{}", events[0]);
    assert_eq!(events[0]["total_bytes"], bytes.len());
    assert_eq!(pulled(&ctl), ["tiny"]);
    assert!(parts(&device).is_empty());
}

#[test]
fn a_source_that_ignores_ranges_or_is_busy_is_dealt_with() {
    let bytes = script(json!({}));
    let hub = Hub::start(&[("a.gguf", &bytes), ("b.gguf", &script(json!({"b": 1})))]);
    let device = scripted("");
    let ctl = device.ctl();
    hub.fault(Fault::Busy);
    assert_eq!(ctl.json(&["model", "pull", &hub.url("a.gguf")])["name"], "a");
    hub.fault(Fault::NoRanges);
    assert_eq!(ctl.json(&["model", "pull", &hub.url("b.gguf")])["name"], "b");
    refused(&ctl, &["model", "pull", &hub.url("gone.gguf")], 1, "SOURCE_FAILED");
    assert_eq!(pulled(&ctl), ["a", "b"]);
}

#[test]
fn bytes_that_are_not_the_announced_ones_are_deleted() {
    let hub = Hub::start(&[("m-Q4_K_M.gguf", &script(json!({})))]);
    let device = scripted(&hub.config());
    let ctl = device.ctl();
    let wrong = "a".repeat(64);
    refused(&ctl, &["model", "pull", &hub.url("m-Q4_K_M.gguf"), "--sha256", &wrong], 1, "DIGEST_MISMATCH");
    hub.lie(&wrong);
    refused(&ctl, &["model", "pull", "hf:org/repo"], 1, "DIGEST_MISMATCH");
    let other = "b".repeat(64);
    let before = hub.seen().len();
    refused(&ctl, &["model", "pull", "hf:org/repo", "--sha256", &other], 1, "DIGEST_MISMATCH");
    assert_eq!(hub.seen().len(), before + 1, "known before a byte is fetched");
    assert!(pulled(&ctl).is_empty() && parts(&device).is_empty(), "{:?}", parts(&device));
}

#[test]
fn the_stores_limit_is_said_with_numbers_before_a_byte_is_stored() {
    let bytes = script(json!({}));
    let hub = Hub::start(&[("m.gguf", &bytes)]);
    let device = scripted("[model]\nstore_max_bytes = 1000\n");
    let ctl = device.ctl();
    let outcome = refused(&ctl, &["model", "pull", &hub.url("m.gguf")], 1, "DISK_FULL");
    assert!(
        outcome.stderr.contains(&bytes.len().to_string()) && outcome.stderr.contains("1000"),
        "{}",
        outcome.stderr
    );
    let file = device.dir().join("m.gguf");
    fs::write(&file, &bytes).unwrap();
    refused(&ctl, &["model", "pull", file.to_str().unwrap()], 1, "DISK_FULL");
}

#[test]
fn a_gated_repository_wants_the_token_which_the_store_behind_it_never_sees() {
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("README.md", b"x".to_vec()),
        ("M-Q4_K_M.gguf", script(json!({}))),
        ("M-Q8_0.gguf", script(json!({"q": 8}))),
    ];
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let hub = Hub::start(&files);
    hub.gate();
    let without = scripted(&hub.config());
    let outcome = refused(&without.ctl(), &["model", "pull", "hf:org/repo:q8_0"], 1, "SOURCE_FAILED");
    assert!(outcome.stderr.contains("hf_token_file"), "{}", outcome.stderr);

    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let with = scripted(&(hub.config() + &format!("hf_token_file = \"{}\"\n", token.display())));
    let ctl = with.ctl();
    let done = ctl.json(&["model", "pull", "hf:org/repo:q8_0"]);
    assert_eq!(done["name"], "m-q8_0");
    assert_eq!(done["source"], format!("hf:org/repo/M-Q8_0.gguf@{COMMIT}"), "pinned to the commit");
    for seen in hub.seen().iter().filter(|seen| seen.path.starts_with("/files/")) {
        assert_eq!(seen.authorization, None, "{seen:?}");
    }
    assert!(!with.log().contains(TOKEN) && !without.log().contains(TOKEN));

    let done = ctl.json(&["model", "pull", &format!("hf:org/repo@{COMMIT}"), "--name", "default"]);
    assert!(done["source"].as_str().unwrap().contains("M-Q4_K_M.gguf"), "{done}");
    let outcome = refused(&ctl, &["model", "pull", "hf:org/repo:Q2_K"], 1, "SOURCE_FAILED");
    assert!(outcome.stderr.contains("M-Q8_0.gguf"), "the candidates are named: {}", outcome.stderr);
    refused(&ctl, &["model", "pull", "hf:org/repo@nowhere"], 1, "SOURCE_FAILED");
}

#[test]
fn a_file_of_the_caller_is_taken_in_once_and_a_name_means_one_content() {
    let device = scripted("");
    let ctl = device.ctl();
    let file = device.dir().join("My Model.gguf");
    let path = file.to_str().unwrap();
    fs::write(&file, script(json!({}))).unwrap();
    let done = ctl.json(&["model", "pull", path]);
    assert_eq!((&done["name"], &done["architecture"]), (&"my-model".into(), &"script".into()));
    assert_eq!(ctl.json(&["model", "pull", path])["sha256"], done["sha256"], "the same again is a success");
    assert_eq!(ctl.json(&["model", "pull", path, "--name", "other"])["sha256"], done["sha256"]);
    ctl.run(&["model", "rm", "my-model"]).expect_code(0);
    assert_eq!(ctl.json(&["model", "load", "other"])["name"], "other", "another name keeps the file");
    fs::write(&file, script(json!({"other": 1}))).unwrap();
    refused(&ctl, &["model", "pull", path, "--name", "other"], 1, "MODEL_EXISTS");
    refused(&ctl, &["model", "pull", path, "--name", "Bad Name"], 2, "BAD_REQUEST");
    refused(&ctl, &["model", "pull", path, "--sha256", &"0".repeat(64)], 2, "BAD_INPUT");
    assert_eq!(ctl.run(&["model", "pull", "/no/such/file.gguf"]).code, 9);
}

#[test]
fn what_is_no_source_is_said_to_be_none() {
    let device = scripted("");
    let ctl = device.ctl();
    for source in [
        "hf:nope",
        "http://example.com/m.gguf",
        "ftp://example.com/m.gguf",
        "https://user:pw@example.com/m.gguf",
    ] {
        let outcome = refused(&ctl, &["model", "pull", source], 2, "BAD_REQUEST");
        assert!(!outcome.stderr.contains("pw@"), "{}", outcome.stderr);
    }
    refused(&ctl, &["model", "pull", "no-such-model"], 9, "MODEL_NOT_FOUND");
    refused(&ctl, &["model", "pull", "https://127.0.0.1:1/m.gguf", "--sha256", "abc"], 2, "BAD_REQUEST");
    refused(&ctl, &["model", "load", "../index"], 2, "BAD_REQUEST");
}

#[test]
fn the_catalogue_says_what_fits_this_machine() {
    let device = scripted("[runtime]\nmemory_max_bytes = 1200000000\n");
    let catalogue = device.ctl().json(&["model", "catalogue"]);
    let entries = catalogue["entries"].as_array().expect("a list");
    assert!(entries.len() >= 5);
    let fitting: Vec<&Value> = entries.iter().filter(|entry| entry["fits"] == true).collect();
    assert!(fitting.len() < entries.len(), "the largest do not fit the limit: {catalogue}");
    assert!(catalogue["memory_bytes"].as_u64() <= Some(1_200_000_000));
    if let Some(largest) = fitting.last() {
        assert_eq!(catalogue["chosen"], largest["name"]);
    }
}

#[test]
fn a_file_that_ends_the_process_that_checks_it_ends_nothing_else() {
    let device = scripted("");
    let ctl = device.ctl();
    let process = device.model_process();
    let file = device.dir().join("deadly.gguf");
    for deadly in [json!({"estimate": "abort"}), json!({"load": "abort"}), json!({"load": "refuse"})] {
        fs::write(&file, script(deadly)).unwrap();
        refused(&ctl, &["model", "pull", file.to_str().unwrap()], 1, "MODEL_INVALID");
    }
    assert!(pulled(&ctl).is_empty() && parts(&device).is_empty());
    assert_eq!(device.model_process(), process);
    answers(&ctl);
}

#[test]
fn a_model_that_is_too_large_is_refused_with_numbers_and_the_old_one_goes_on() {
    let device = scripted("");
    let ctl = device.ctl();
    let file = device.dir().join("huge.gguf");
    fs::write(&file, script(json!({"memory": {"weights": 3_u64 << 40, "available": 1_u64 << 30}}))).unwrap();
    assert_eq!(
        ctl.json(&["model", "pull", file.to_str().unwrap()])["name"],
        "huge",
        "it may fit another day"
    );
    let process = device.model_process();
    let outcome = refused(&ctl, &["model", "load", "huge"], 1, "MODEL_TOO_LARGE");
    for part in ["needs 3145728 MiB", "1024 MiB are available", "goes on answering"] {
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
    assert_eq!(device.model_process(), process);
}

#[test]
fn where_both_do_not_fit_the_old_one_leaves_first_and_comes_back_when_the_new_one_fails() {
    // The scripted engine says that it takes 1 MiB: two of them are more than the limit.
    let device = scripted("[runtime]\nmemory_max_bytes = 1500000\n");
    let ctl = device.ctl();
    let before = ctl.json(&["model", "info"])["name"].clone();
    let marker = device.dir().join("now");
    let script = script(json!({
        "memory": {"weights": 600_000}, "load": format!("abort-when {}", marker.display()),
    }));
    let file = device.dir().join("second.gguf");
    fs::write(&file, script).unwrap();
    ctl.json(&["model", "pull", file.to_str().unwrap()]);
    // The heartbeat that says how much the old one takes.
    while ctl.json(&["model", "info"])["resident_bytes"].is_null() {}
    fs::write(&marker, "").unwrap();
    let outcome = refused(&ctl, &["model", "load", "second"], 1, "MODEL_INVALID");
    assert!(outcome.stderr.contains("answers again"), "{}", outcome.stderr);
    assert_eq!(ctl.json(&["model", "info"])["name"], before);
    answers(&ctl);

    fs::remove_file(&marker).unwrap();
    while ctl.json(&["model", "info"])["resident_bytes"].is_null() {}
    let loaded = ctl.json(&["model", "load", "second"]);
    assert_eq!(loaded["name"], "second");
    assert!(loaded["gap_ms"].as_u64() > Some(0), "{loaded}");
    answers(&ctl);
}

#[test]
fn a_model_that_kills_its_process_twice_is_left_alone_across_restarts_until_it_is_asked_for() {
    let mut device = scripted("");
    let ctl = device.ctl();
    let marker = device.dir().join("now");
    let file = device.dir().join("moody.gguf");
    fs::write(&file, script(json!({"load": format!("abort-when {}", marker.display())}))).unwrap();
    ctl.json(&["model", "pull", file.to_str().unwrap()]);
    let before = device.model_process();
    ctl.json(&["model", "load", "moody"]);
    // The old one is on its way out. A poll, because nobody tells of the end of somebody else's child.
    while device.model_process() == before {
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    fs::write(&marker, "").unwrap();
    kill_pid(device.model_process());
    let failed =
        ctl.wait_for_status("a model that is left alone", |status| status["model"]["state"] == "failed");
    assert!(failed["model"]["reason"].as_str().unwrap().contains("2 times in a row"), "{failed}");
    fs::remove_file(&marker).unwrap();

    device.restart();
    let ctl = device.ctl();
    let still = ctl.wait_for_status("the same", |status| status["model"]["state"] != "loading");
    assert_eq!(still["model"]["state"], "failed", "a restart of the daemon changes nothing: {still}");
    assert_eq!(ctl.json(&["model", "load", "moody"])["name"], "moody");
    answers(&ctl);
}
