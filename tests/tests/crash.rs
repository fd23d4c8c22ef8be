//! Things that die at the worst moment: the model process, the gateway, the daemon.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use synesis_tests::device::Device;
use synesis_tests::gateway::Gateway;
use synesis_tests::process::kill_pid;
use synesis_tests::provider::{Provider, Script};

#[test]
fn killing_the_model_process_costs_one_answer() {
    let device = Device::start();
    let ctl = device.ctl();
    ctl.wait_for_model();
    let mut watch = ctl.stream(&["--json", "--timeout", "90s", "status", "--watch"]);
    assert_eq!(watch.next_json().expect("a snapshot")["model"]["state"], "ready");

    let mut ask = ctl.stream(&[
        "--json",
        "ask",
        "--local",
        "--max-tokens",
        "400",
        "Tell me a long story about the sea.",
    ]);
    assert_eq!(ask.next_json().expect("the answer has begun")["type"], "delta");
    kill_pid(device.model_process());
    let ended = ask.finish().expect_code(1);
    assert!(
        ended.stderr.contains("MODEL_CRASHED") || ended.stderr.contains("model process"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stdout.contains("\"done\""), "a cut answer must not look finished: {}", ended.stdout);

    // Status tells the truth in between, and again afterwards.
    let mut saw_it_down = None;
    loop {
        let status = watch.next_json().expect("the watch goes on");
        if status["model"]["state"] != "ready" {
            saw_it_down = Some(status);
        } else if saw_it_down.is_some() {
            break;
        }
    }
    let down = saw_it_down.expect("seen");
    assert_eq!(down["state"], "degraded", "{down}");
    assert!(down["model"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{down}");

    let next = ctl.json(&["ask", "--local", "--max-tokens", "16", "What is the capital of France?"]);
    assert_eq!(next["type"], "done");
    assert_eq!(ctl.json(&["status"])["state"], degraded_only_for_the_tunnel());
}

/// An unenrolled device is complete: offline by choice is not a fault, so the daemon is ready.
fn degraded_only_for_the_tunnel() -> Value {
    "ready".into()
}

#[test]
fn the_adapter_is_back_after_the_model_process_was_killed() {
    let device = Device::start();
    let ctl = device.ctl();
    ctl.wait_for_model();
    let adapter = synesis_tests::models::adapter("json");
    ctl.run(&["adapter", "import", "json", adapter.to_str().unwrap()]).expect_code(0);
    ctl.json(&["adapter", "swap", "json"]);
    let before = device.model_process();
    let mut watch = ctl.stream(&["--json", "--timeout", "90s", "status", "--watch"]);
    watch.next_json().expect("a snapshot");
    kill_pid(before);
    let mut down = false;
    loop {
        let ready = watch.next_json().expect("the watch goes on")["model"]["state"] == "ready";
        if ready && down {
            break;
        }
        down |= !ready;
    }
    let said = ctl.json(&["ask", "--local", "--max-tokens", "32", "What is the capital of France?"]);
    assert!(said["text"].as_str().expect("text").starts_with("{\"answer\":"), "{said}");
    assert_ne!(device.model_process(), before);
}

#[test]
fn local_asks_go_on_while_the_gateway_is_dead_and_the_tunnel_comes_back_by_itself() {
    let provider = Provider::start(Script::Echo);
    let mut gateway = Gateway::with_provider(&provider);
    let device = Device::start();
    gateway.enroll(&device);
    let ctl = device.ctl();
    ctl.wait_for_model();
    assert!(ctl.json(&["tunnel", "ping"])["rtt_ms"].as_f64() > Some(0.0));

    gateway.kill();
    ctl.run(&["ask", "--local", "--max-tokens", "8", "Hello"]).expect_code(0);
    let down = ctl.wait_for_status("a tunnel that is down", |status| status["tunnel"]["state"] != "up");
    assert_eq!(down["state"], "degraded", "offline is degraded, never a failure: {down}");
    assert!(down["tunnel"]["rtt_ms"].is_null(), "no stale numbers: {down}");
    let tunnel = down["subsystems"]
        .as_array()
        .and_then(|all| all.iter().find(|s| s["name"] == "tunnel"))
        .expect("listed");
    assert!(!tunnel["reason"].as_str().unwrap_or_default().is_empty(), "{tunnel}");
    assert!(!tunnel["next_step"].as_str().unwrap_or_default().is_empty(), "{tunnel}");
    let outcome = ctl.run(&["ask", "--cloud", "Hello"]).expect_code(6);
    assert!(outcome.stderr.contains("next:"), "{}", outcome.stderr);
    ctl.run(&["ask", "--local", "--max-tokens", "8", "Hello"]).expect_code(0);
    assert_eq!(ctl.json(&["ask", "--auto", "--max-tokens", "8", "Hello"])["origin"], "local");

    gateway.restart();
    ctl.wait_for_tunnel();
    assert_eq!(ctl.json(&["ask", "--cloud", "welcome back"])["text"], "welcome back");
}

#[test]
fn a_gateway_killed_in_the_middle_of_an_answer_leaves_a_clear_error_and_an_honest_account() {
    let provider = Provider::start(Script::EchoAndPause);
    let mut gateway = Gateway::with_provider(&provider);
    let device = Device::start();
    gateway.enroll(&device);
    let ctl = device.ctl();
    let mut ask = ctl.stream(&["--json", "ask", "--cloud", "alpha beta gamma"]);
    assert_eq!(ask.next_json().expect("the first word")["type"], "delta");
    gateway.kill();
    let ended = ask.finish().expect_code(6);
    assert!(!ended.stdout.contains("\"done\""), "{}", ended.stdout);
    assert_eq!(
        ctl.json(&["status"])["pending_receipts"],
        1,
        "what it cost is not known yet, and is not forgotten"
    );
    gateway.restart();
    ctl.wait_for_tunnel();
    ctl.wait_for_status("the open request settled or released", |status| status["pending_receipts"] == 0);
    assert_eq!(ctl.json(&["billing", "balance"])["held_nanousd"], 0, "no hold is left behind");
    ctl.run(&["billing", "verify"]).expect_code(0);
}

#[test]
fn receipts_survive_the_daemon_being_killed() {
    let provider = Provider::start(Script::Echo);
    let gateway = Gateway::with_provider(&provider);
    let mut device = Device::start();
    gateway.enroll(&device);
    let first = device.ctl().json(&["ask", "--cloud", "one two"])["receipt"].clone();
    device.kill_and_restart();
    let ctl = device.ctl();
    let kept = ctl.run(&["--json", "billing", "receipts"]).expect_code(0).json_lines();
    assert_eq!(kept, [first]);
    ctl.wait_for_tunnel();
    assert_eq!(ctl.json(&["ask", "--cloud", "three"])["receipt"]["seq"], 2, "the chain goes on");
    ctl.run(&["billing", "verify"]).expect_code(0);
}

#[test]
fn stopping_the_daemon_leaves_no_process_behind() {
    let device = Device::start();
    device.ctl().wait_for_model();
    let (daemon, child) = (device.process().pid(), device.model_process());
    drop(device);
    for id in [daemon, child] {
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists(), "{id} is still there");
    }
}

#[test]
fn a_killed_daemon_takes_its_model_process_with_it() {
    let device = Device::start();
    device.ctl().wait_for_model();
    let child = device.model_process();
    kill_pid(device.process().pid());
    // It notices the closed socket; init reaps it. A poll, because there is no event for somebody else's grandchild.
    let gone = || !std::path::Path::new(&format!("/proc/{child}/exe")).exists();
    for _ in 0..200 {
        if gone() {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    panic!("the model process {child} outlived its daemon");
}
