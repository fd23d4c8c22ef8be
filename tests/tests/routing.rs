//! Where prompts go: by confidence, by agreement, around a busy model; and the log that decides the same again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use serde_json::Value;
use synesis_tests::device::Device;
use synesis_tests::gateway::Gateway;
use synesis_tests::provider::{Provider, Script};

/// Says "sure" with certainty, "unsure" with little of it, and "moody" differently each time.
const SCRIPT: &str = r#"{ "answers": [
    { "match": "unsure", "say": ["per", "haps"], "logprob": -2.0 },
    { "match": "moody", "say": ["red ", "things"], "samples": ["blue sky", "green grass"], "logprob": -0.01 },
    { "match": "calm", "say": ["red ", "things"], "samples": ["Red things!"], "logprob": -0.01 },
    { "match": "busy", "busy_ms": 1500 },
    { "match": "sure", "say": ["yes, ", "of ", "course"], "logprob": -0.01 } ] }"#;

const CONFIDENT: &str = "[routing]\nmin_confidence = 0.5\nconfidence_tokens = 2\n";

struct World {
    provider: Provider,
    gateway: Gateway,
    device: Device,
}

/// A device with the scripted model and this configuration, enrolled.
fn world(script: Script, config: &str) -> World {
    let provider = Provider::start(script);
    let gateway = Gateway::with_provider(&provider);
    let device = Device::scripted(SCRIPT, config);
    gateway.enroll(&device);
    device.ctl().wait_for_model();
    World { provider, gateway, device }
}

fn log(device: &Device) -> Vec<Value> {
    device.ctl().run(&["--json", "route", "--log"]).expect_code(0).json_lines()
}

#[track_caller]
fn assert_replays(device: &Device) {
    let replayed = device.ctl().run(&["--json", "route", "--replay"]).expect_code(0).json_lines();
    assert_eq!(replayed.len(), log(device).len());
    assert!(replayed.iter().all(|line| line["same"] == true), "{replayed:?}");
}

#[test]
fn an_answer_the_model_is_sure_of_stays_and_one_it_is_not_goes_to_the_cloud() {
    let World { provider, device, gateway: _gateway } = world(Script::Echo, CONFIDENT);
    let ctl = device.ctl();
    let stays = ctl.json(&["ask", "I am sure"]);
    assert_eq!((&stays["text"], &stays["origin"]), (&"yes, of course".into(), &"local".into()));
    assert_eq!(stays["reason"], "local_confident");
    assert!(provider.bodies().is_empty(), "nothing left for it");

    let lines = ctl.run(&["--json", "ask", "I am unsure about ada@example.org"]).expect_code(0).json_lines();
    let (done, deltas) = lines.split_last().unwrap();
    assert_eq!((&done["origin"], &done["reason"]), (&"cloud".into(), &"low_confidence".into()));
    assert_eq!(done["receipt"]["schema"], "synesis.receipt/1", "it is billed as any other");
    let streamed: String = deltas.iter().filter_map(|line| line["text"].as_str()).collect();
    assert_eq!(streamed, "I am unsure about ada@example.org", "nothing of the local answer was shown");
    assert!(!provider.bodies()[0].contains("ada@"), "it is redacted as any other");

    let log = log(&device);
    assert_eq!(log.len(), 2);
    assert_eq!(log[1]["evidence"][0]["confidence"]["tokens"], 2);
    assert_eq!(log[1]["evidence"][0]["confidence"]["confidence_ppm"], 135_335, "exp(-2) in millionths");
    assert_replays(&device);
}

#[test]
fn a_request_that_may_not_leave_keeps_its_unsure_answer() {
    let World { provider, device, gateway: _gateway } = world(Script::Echo, CONFIDENT);
    let ctl = device.ctl();
    for flags in [&["--local"][..], &["--logprobs", "0"], &["--deterministic"], &["--top-k", "5"]] {
        let mut args = vec!["ask", "I am unsure"];
        args.extend(flags);
        let done = ctl.json(&args);
        assert_eq!((&done["origin"], &done["text"]), (&"local".into(), &"perhaps".into()), "{flags:?}");
    }
    assert!(provider.bodies().is_empty());
    let refused = ctl.run(&["--json", "ask", "--cloud", "--top-k", "5", "hi"]).expect_code(2);
    assert!(refused.stderr.contains("UNSUPPORTED") && refused.stderr.contains("top_k"), "{}", refused.stderr);
}

#[test]
fn when_the_escalation_fails_the_local_answer_is_given_and_says_so() {
    let config = format!("{CONFIDENT}min_agreement = 1.0\n");
    let World { device, gateway, .. } = world(Script::Fail, &config);
    let ctl = device.ctl();
    // Doubted in the middle: it is made again. Doubted when it was whole: it was kept.
    for (prompt, text) in [("I am unsure", "perhaps"), ("I am moody", "red things")] {
        let done = ctl.json(&["ask", prompt]);
        assert_eq!((&done["origin"], &done["text"]), (&"local".into(), &text.into()));
        assert_eq!(done["reason"], "escalation_failed");
        assert!(done["receipt"].is_null());
    }
    // Nothing is charged for what never came.
    let balance = ctl.json(&["billing", "balance"]);
    assert_eq!((&balance["unbilled_nanousd"], &balance["held_nanousd"]), (&0.into(), &0.into()));
    assert_replays(&device);
    drop(gateway);
}

#[test]
fn samples_that_say_something_else_escalate_and_samples_that_agree_do_not() {
    let config = "[routing]\nmin_agreement = 1.0\nagreement_samples = 2\n";
    let World { device, gateway: _gateway, provider: _provider } = world(Script::Echo, config);
    let ctl = device.ctl();
    let calm = ctl.json(&["ask", "I am calm"]);
    assert_eq!((&calm["reason"], &calm["text"]), (&"local_confident".into(), &"red things".into()));
    let moody = ctl.json(&["ask", "I am moody"]);
    assert_eq!((&moody["origin"], &moody["reason"]), (&"cloud".into(), &"low_agreement".into()));
    assert_replays(&device);
}

#[test]
fn a_busy_model_is_reported_with_its_time_or_passed_by_where_waiting_has_a_limit() {
    let World { device, gateway: _gateway, provider: _provider } = world(Script::Echo, "");
    let refused = device.ctl().run(&["--json", "ask", "are you busy?"]).expect_code(1);
    let error: Value = serde_json::from_str(refused.stderr.trim()).unwrap();
    assert_eq!((&error["reason"], &error["retry_after_ms"]), (&"BUSY".into(), &1500.into()));
    drop(device);

    let World { device, gateway: _gateway, provider: _provider } =
        world(Script::Echo, "[routing]\nmax_wait_ms = 100\n");
    let done = device.ctl().json(&["ask", "are you busy?"]);
    assert_eq!((&done["origin"], &done["reason"]), (&"cloud".into(), &"local_busy".into()));
    assert_replays(&device);
}

#[test]
fn the_log_holds_no_word_of_any_prompt_survives_a_restart_and_finds_what_was_changed() {
    let mut device = Device::scripted(SCRIPT, "");
    device.ctl().wait_for_model();
    let secrets = ["Jabberwocky", "hunter2hunter2", "session-of-ada", "slithy"];
    let prompt = format!("{} says the password: {} to be sure", secrets[0], secrets[1]);
    device.ctl().json(&["ask", "--session", secrets[2], "--system", secrets[3], &prompt]);
    device.ctl().run(&["ask", "--cloud", &prompt]).expect_code(4);
    let file = device.state_dir().join("decisions.jsonl");
    device.restart();
    let ctl = device.ctl();
    let log = log(&device);
    let outcomes: Vec<_> = log.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["local_can_answer", "not_enrolled"], "a refusal was decided too");
    let text = fs::read_to_string(&file).unwrap();
    for secret in secrets {
        assert!(!text.contains(secret), "{text}");
    }
    assert_replays(&device);

    let changed = device.dir().join("changed.jsonl");
    fs::write(&changed, text.replacen("local_can_answer", "policy_local", 1) + "torn {\n").unwrap();
    let outcome = ctl.run(&["route", "--replay", changed.to_str().unwrap()]).expect_code(1);
    let starts: Vec<_> = outcome.stdout.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(starts, ["different", "same", "faulty"], "{}", outcome.stdout);
}

#[test]
fn route_explains_and_sends_and_records_nothing() {
    let World { provider, device, gateway: _gateway } = world(Script::Echo, CONFIDENT);
    let route = device.ctl().json(&["route", "I am unsure"]);
    assert_eq!((&route["decision"], &route["reason"]), (&"local".into(), &"local_can_answer".into()));
    assert!(route["explanation"].as_str().unwrap().contains("unsure"), "{route}");
    assert_eq!(route["inputs"]["thresholds"]["min_confidence_ppm"], 500_000);
    assert_eq!(route["inputs"]["uplink"], "up");
    assert!(provider.bodies().is_empty() && log(&device).is_empty());
}

/// With the real model: what a turn left in the cache is found again by the next, which needs every letter of it.
#[test]
fn the_second_turn_of_a_session_begins_with_the_tokens_of_the_first() {
    let device = Device::start();
    let ctl = device.ctl();
    ctl.wait_for_model();
    let ask = |prompt: &str| ctl.json(&["ask", "--local", "--max-tokens", "24", "--session", "s", prompt]);
    let first = ask("Tell me about the sea.");
    let second = ask("And about the sky?");
    let all = second["usage"]["input_tokens"].as_u64().unwrap();
    let cached = second["cached_tokens"].as_u64().unwrap();
    assert!(cached >= first["usage"]["input_tokens"].as_u64().unwrap(), "{cached} of {all}: {second}");
    assert!(cached < all, "the new turn is not in the cache");
}
