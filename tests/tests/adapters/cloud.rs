//! Adapters at the gateway: pushed through kills and restarts, pulled back and checked, used in the cloud, and nobody
//! else's business.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use synesis_tests::ctl::Ctl;
use synesis_tests::device::Device;
use synesis_tests::gateway::Gateway;
use synesis_tests::models::adapter;
use synesis_tests::provider::{Provider, Script};

use super::shape::{QUESTIONS, Shape, answer, import, listed, names, ready, shape_of, text};

/// A device with the trained adapter `json`, enrolled with `gateway`.
fn enrolled(gateway: &Gateway) -> (Device, Ctl) {
    let (device, ctl) = ready();
    gateway.enroll(&device);
    import(&ctl, "json");
    (device, ctl)
}

/// The newest transfer of the list.
fn transfer(ctl: &Ctl) -> Value {
    let list = ctl.json(&["adapter", "list"]);
    list["transfers"].as_array().expect("a list").last().unwrap_or_else(|| panic!("{list}")).clone()
}

fn in_cloud(ctl: &Ctl) -> Vec<String> {
    let list = ctl.json(&["adapter", "list", "--cloud"]);
    let adapters = list["adapters"].as_array().expect("a list");
    adapters.iter().map(|adapter| adapter["name"].as_str().expect("a name").to_owned()).collect()
}

/// The gateway's folder of the one account that has adapters.
fn account_folder(gateway: &Gateway) -> PathBuf {
    let mut accounts = fs::read_dir(gateway.dir().join("store/adapters")).unwrap();
    accounts.next().expect("an account").unwrap().path()
}

fn cloud_answer(ctl: &Ctl, question: &str, adapter: &str) -> Value {
    ctl.json(&["ask", "--cloud", "--max-tokens", "48", "--adapter", adapter, question])
}

#[test]
fn a_push_survives_a_dead_gateway_a_killed_daemon_and_an_interrupted_start_and_the_adapter_comes_back() {
    let mut gateway = Gateway::with_small_runtime();
    let (mut device, mut ctl) = enrolled(&gateway);
    gateway.kill();
    let queued = ctl.json(&["adapter", "push", "json", "--detach"]);
    assert_ne!(queued["state"], "done", "{queued}");
    device.kill_and_restart();
    ctl = device.ctl();
    assert_eq!((&transfer(&ctl)["name"], &transfer(&ctl)["direction"]), (&"json".into(), &"push".into()));
    gateway.restart();
    ctl.wait_for_tunnel();
    // Asked for again it is the same job, and this waits for its end.
    let done = ctl.json(&["adapter", "push", "json"]);
    assert_eq!((&done["state"], &done["type"]), (&"done".into(), &"done".into()), "{done}");
    assert_eq!(done["moved_bytes"], done["size_bytes"]);
    let stored = account_folder(&gateway).join(format!("{}.gguf", done["sha256"].as_str().unwrap()));
    assert_eq!(fs::read(&stored).unwrap(), fs::read(adapter("json")).unwrap(), "byte for byte");

    device.kill_and_restart();
    gateway.kill();
    gateway.restart();
    ctl = device.ctl();
    ctl.wait_for_model();
    ctl.wait_for_tunnel();
    assert_eq!(transfer(&ctl)["state"], "done", "how it ended is still known");
    ctl.run(&["adapter", "rm", "json"]).expect_code(0);
    assert_eq!(names(&ctl), Vec::<String>::new());
    let pulled = ctl.json(&["adapter", "pull", "json"]);
    assert_eq!(pulled["state"], "done", "{pulled}");
    let record = listed(&ctl, "json");
    let device_id = ctl.json(&["status"])["device_id"].as_str().unwrap().to_owned();
    let source = record["source"].as_str().unwrap();
    assert!(source.contains("gateway") && source.contains(&device_id), "{record}");
    ctl.json(&["adapter", "swap", "json"]);
    for question in QUESTIONS {
        assert_eq!(shape_of(text(&answer(&ctl, question, &[]))), Shape::Json, "{question}");
    }
}

#[test]
fn what_came_before_an_interruption_is_not_sent_again_in_either_direction() {
    let gateway = Gateway::with_small_runtime();
    let (device, ctl) = enrolled(&gateway);
    let bytes = fs::read(adapter("json")).unwrap();
    let sha256 = listed(&ctl, "json")["sha256"].as_str().unwrap().to_owned();
    // What a push leaves that was cut off half way. The account's folder is made by a first push.
    import(&ctl, "pirate");
    ctl.run(&["adapter", "push", "pirate"]).expect_code(0);
    let half = bytes.len() / 2;
    let part = account_folder(&gateway).join(format!("{sha256}.{}.part", bytes.len()));
    fs::write(&part, &bytes[..half]).unwrap();
    ctl.run(&["adapter", "push", "json"]).expect_code(0);
    assert!(device.log().contains(&format!("have={half}")), "{}", device.log());
    assert!(!part.exists());
    // Once more: there is nothing to send.
    ctl.run(&["adapter", "push", "json"]).expect_code(0);

    ctl.run(&["adapter", "rm", "json"]).expect_code(0);
    fs::write(device.state_dir().join(format!("transfers/{sha256}.part")), &bytes[..1000]).unwrap();
    ctl.run(&["adapter", "pull", &sha256, "--name", "again"]).expect_code(0);
    assert!(device.log().contains("have=1000"), "{}", device.log());
    assert_eq!(listed(&ctl, "again")["sha256"], sha256.as_str());
}

#[test]
fn a_part_that_was_damaged_is_noticed_and_the_push_begins_anew_by_itself() {
    let gateway = Gateway::with_small_runtime();
    let (_device, ctl) = enrolled(&gateway);
    import(&ctl, "pirate");
    ctl.run(&["adapter", "push", "pirate"]).expect_code(0);
    let record = listed(&ctl, "json");
    let part = format!("{}.{}.part", record["sha256"].as_str().unwrap(), record["size_bytes"]);
    fs::write(account_folder(&gateway).join(part), [7; 4096]).unwrap();
    assert_eq!(ctl.json(&["adapter", "push", "json"])["state"], "done");
    assert_eq!(cloud_answer(&ctl, QUESTIONS[0], "json")["adapter"], "json");
}

#[test]
fn a_pushed_adapter_answers_in_the_cloud_whether_the_device_has_it_or_not() {
    let gateway = Gateway::with_small_runtime();
    let (_device, ctl) = enrolled(&gateway);
    import(&ctl, "pirate");
    let outcome = ctl.run(&["ask", "--cloud", "--adapter", "json", "Hi"]).expect_code(9);
    assert!(outcome.stderr.contains("synctl adapter push json"), "{}", outcome.stderr);
    assert_eq!(ctl.json(&["billing", "balance"])["held_nanousd"], 0);
    for name in ["json", "pirate"] {
        ctl.run(&["adapter", "push", name]).expect_code(0);
    }
    ctl.run(&["adapter", "rm", "pirate"]).expect_code(0);
    for (name, shape) in [("json", Shape::Json), ("pirate", Shape::Pirate), ("none", Shape::Base)] {
        let said = cloud_answer(&ctl, QUESTIONS[0], name);
        assert_eq!(shape_of(text(&said)), shape, "{name}: {said}");
        assert_eq!(said["origin"], "cloud", "{said}");
        assert!(said["receipt"].is_object(), "{said}");
    }
    ctl.run(&["billing", "verify"]).expect_code(0);
    let mut known = in_cloud(&ctl);
    known.sort();
    assert_eq!(known, ["json", "pirate"]);
    let removed = ctl.json(&["adapter", "rm", "--cloud", "pirate"]);
    assert_eq!(removed["removed"][0]["name"], "pirate");
    assert_eq!(in_cloud(&ctl), ["json"]);
    ctl.run(&["ask", "--cloud", "--adapter", "pirate", "Hi"]).expect_code(9);
    assert_eq!(names(&ctl), ["json"], "the device's own stays");
}

#[test]
fn a_model_that_cannot_use_the_adapter_says_so_before_anything_is_held() {
    let provider = Provider::start(Script::Echo);
    for (gateway, why) in [
        (Gateway::with_provider(&provider), "provider of kind runtime"),
        (Gateway::with_runtime(), "made for llama models"),
    ] {
        let (_device, ctl) = enrolled(&gateway);
        ctl.run(&["adapter", "push", "json"]).expect_code(0);
        let outcome = ctl.run(&["--json", "ask", "--cloud", "--adapter", "json", "Hi"]).expect_code(1);
        let error: Value = serde_json::from_str(outcome.stderr.trim()).unwrap();
        assert_eq!(error["reason"], "ADAPTER_INVALID", "{error}");
        assert!(error["message"].as_str().unwrap().contains(why), "{error}");
        assert_eq!(ctl.json(&["billing", "balance"])["held_nanousd"], 0);
    }
}

#[test]
fn a_file_that_is_no_adapter_is_found_out_when_it_is_used_and_when_it_is_pulled() {
    let gateway = Gateway::with_small_runtime();
    let (_device, ctl) = enrolled(&gateway);
    ctl.run(&["adapter", "push", "json"]).expect_code(0);
    let sha256 = listed(&ctl, "json")["sha256"].as_str().unwrap().to_owned();
    // Somebody at the gateway puts another file of the same size in its place.
    let stored = account_folder(&gateway).join(format!("{sha256}.gguf"));
    let size = fs::metadata(&stored).unwrap().len();
    fs::write(&stored, vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
    let outcome = ctl.run(&["--json", "ask", "--cloud", "--adapter", "json", "Hi"]).expect_code(1);
    assert!(outcome.stderr.contains("ADAPTER_INVALID"), "{}", outcome.stderr);
    ctl.run(&["adapter", "rm", "json"]).expect_code(0);
    let outcome = ctl.run(&["--json", "adapter", "pull", "json"]).expect_code(1);
    assert!(outcome.stderr.contains("DIGEST_MISMATCH"), "{}", outcome.stderr);
    assert_eq!(names(&ctl), Vec::<String>::new());
    assert_eq!(transfer(&ctl)["state"], "failed");
}

#[test]
fn another_account_has_its_own_adapters_only() {
    let gateway = Gateway::with_small_runtime();
    let (_device, ctl) = enrolled(&gateway);
    ctl.run(&["adapter", "push", "json"]).expect_code(0);
    let sha256 = listed(&ctl, "json")["sha256"].as_str().unwrap().to_owned();
    gateway.account("other", &["--tier", "managed", "--ceiling", "5"]);
    let stranger = Device::start();
    gateway.enroll_with(&stranger, &gateway.token_file("other", &[])).expect_code(0);
    let theirs = stranger.ctl();
    theirs.wait_for_tunnel();
    assert_eq!(in_cloud(&theirs), Vec::<String>::new());
    for args in [
        &["adapter", "pull", "json"][..],
        &["adapter", "pull", &sha256],
        &["adapter", "rm", "--cloud", "json"],
        &["ask", "--cloud", "--adapter", "json", "Hi"],
    ] {
        theirs.run(args).expect_code(9);
    }
    assert_eq!(in_cloud(&ctl), ["json"]);
}

#[test]
fn a_push_that_waits_can_be_cancelled_and_one_over_the_quota_is_refused_with_the_numbers() {
    let mut gateway =
        Gateway::with_small_runtime_and("[adapters]\nmax_bytes = 1900000\nquota_bytes = 2000000\n");
    let (_device, ctl) = enrolled(&gateway);
    import(&ctl, "pirate");
    ctl.run(&["adapter", "push", "json"]).expect_code(0);
    let outcome = ctl.run(&["--json", "adapter", "push", "pirate"]).expect_code(7);
    let error: Value = serde_json::from_str(outcome.stderr.trim().lines().last().unwrap()).unwrap();
    assert_eq!(error["reason"], "ADAPTER_QUOTA", "{error}");
    assert!(error["message"].as_str().unwrap().contains("2000000"), "{error}");
    assert_eq!(transfer(&ctl)["state"], "failed");

    gateway.kill();
    ctl.json(&["adapter", "push", "pirate", "--detach"]);
    let human = ctl.run(&["adapter", "list"]).expect_code(0).stdout;
    assert!(human.contains("TRANSFER") && human.contains("push"), "{human}");
    let cancelled = ctl.json(&["adapter", "push", "pirate", "--cancel"]);
    assert_eq!(cancelled["cancelled"]["name"], "pirate");
    ctl.run(&["adapter", "push", "pirate", "--cancel"]).expect_code(9);
}

#[test]
fn a_device_that_is_not_enrolled_says_so() {
    let (_device, ctl) = ready();
    import(&ctl, "json");
    for args in [&["adapter", "push", "json"][..], &["adapter", "pull", "x"], &["adapter", "list", "--cloud"]]
    {
        ctl.run(args).expect_code(4);
    }
}
