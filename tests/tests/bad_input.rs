//! Wrong input at every edge: a clear sentence, a next step, the documented exit code, and the daemon still up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use synesis_tests::binaries::binary;
use synesis_tests::ctl::{Ctl, Outcome, finish};
use synesis_tests::device::Device;
use synesis_tests::gateway::Gateway;
use synesis_tests::models::{SMOLLM, model};
use synesis_tests::provider::{Provider, Script};

/// A device that needs no model for what is tested.
fn device() -> Device {
    Device::scripted("{}", "")
}

#[track_caller]
fn assert_clear(outcome: &Outcome, words: &[&str]) {
    for word in words {
        assert!(outcome.stderr.contains(word), "expected {word:?} in: {}", outcome.stderr);
    }
    assert!(outcome.stderr.contains("next:"), "no next step: {}", outcome.stderr);
    assert!(outcome.stdout.is_empty(), "data on stdout of a failure: {}", outcome.stdout);
}

#[test]
fn a_wrong_an_expired_and_a_used_token_each_say_which() {
    let gateway = Gateway::with_provider(&Provider::start(Script::Echo));
    gateway.account("acme", &[]);
    let device = device();

    let wrong = gateway.dir().join("wrong");
    fs::write(&wrong, "syn1_bm90IGEgdG9rZW4gdGhhdCBhbnlib2R5IG1hZGU\n").unwrap();
    let outcome = gateway.enroll_with(&device, &wrong).expect_code(4);
    assert_clear(&outcome, &["token"]);
    assert!(!outcome.stderr.contains("bm90IGEg"), "a token is not repeated: {}", outcome.stderr);

    let expired = gateway.token_file("acme", &["--ttl", "1s"]);
    // Here the clock itself is what is tested.
    std::thread::park_timeout(std::time::Duration::from_millis(1_200));
    let outcome = gateway.enroll_with(&device, &expired).expect_code(4);
    assert_clear(&outcome, &["expired"]);

    let once = gateway.token_file("acme", &["--uses", "1"]);
    gateway.enroll_with(&device, &once).expect_code(0);
    let second = self::device();
    let outcome = gateway.enroll_with(&second, &once).expect_code(4);
    assert_clear(&outcome, &["used"]);
    second.ctl().run(&["status"]).expect_code(0);
}

#[test]
fn a_wrong_ca_is_refused_before_the_token_is_sent() {
    let gateway = Gateway::with_provider(&Provider::start(Script::Echo));
    let other = Gateway::with_provider(&Provider::start(Script::Echo));
    gateway.account("acme", &[]);
    let token = gateway.token_file("acme", &["--uses", "1"]);
    let device = device();
    let (address, ca) = (gateway.address(), other.ca());
    let enroll = |ca: &Path| {
        device.ctl().run(&[
            "enroll",
            "--gateway",
            &address,
            "--ca",
            ca.to_str().unwrap(),
            "--token-file",
            token.to_str().unwrap(),
        ])
    };
    assert_clear(&enroll(&ca).expect_code(4), &["CA"]);
    let garbage = device.dir().join("garbage.pem");
    fs::write(&garbage, "this is no certificate").unwrap();
    assert_clear(&enroll(&garbage), &["CA"]);
    // The one use is still there.
    enroll(&gateway.ca()).expect_code(0);
}

#[test]
fn an_unreachable_gateway_is_offline() {
    let gateway = Gateway::with_provider(&Provider::start(Script::Echo));
    let (ca, token) = (gateway.ca(), gateway.dir().join("token"));
    fs::write(&token, "syn1_bm90IGEgdG9rZW4gdGhhdCBhbnlib2R5IG1hZGU\n").unwrap();
    let device = device();
    let (ca, token) = (ca.to_str().unwrap().to_owned(), token.to_str().unwrap().to_owned());
    let enroll = |address: &str| {
        device.ctl().run(&["enroll", "--gateway", address, "--ca", &ca, "--token-file", &token])
    };
    let outcome = enroll("127.0.0.1:9").expect_code(6);
    assert_clear(&outcome, &["127.0.0.1:9"]);
    assert_clear(&enroll("no-such-host.invalid:4433").expect_code(6), &["no-such-host.invalid"]);
    let outcome = enroll("no port at all");
    assert!(outcome.code == 2 || outcome.code == 1, "{}", outcome.code);
    device.ctl().run(&["status"]).expect_code(0);
}

#[test]
fn what_needs_an_identity_says_that_there_is_none() {
    let device = device();
    for args in [&["ask", "--cloud", "Hi"][..], &["tunnel", "ping"], &["billing", "balance"]] {
        assert_clear(&device.ctl().run(args).expect_code(4), &["enrol"]);
    }
}

#[test]
fn a_revoked_device_is_told_so_on_its_live_connection() {
    let provider = Provider::start(Script::Echo);
    let gateway = Gateway::with_provider(&provider);
    let device = device();
    gateway.enroll(&device);
    let id = device.ctl().json(&["status"])["device_id"].as_str().expect("enrolled").to_owned();
    gateway.admin(&["device", "revoke", &id]).expect_code(0);
    let status = device.ctl().wait_for_status("revoked", |status| status["tunnel"]["state"] == "revoked");
    assert_eq!(status["state"], "degraded");
    assert_clear(&device.ctl().run(&["ask", "--cloud", "Hi"]).expect_code(4), &["revoked"]);
    assert!(provider.bodies().is_empty());
}

#[test]
fn no_daemon_and_no_permission_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let nobody_there = Ctl::new(&folder.path().join("control.sock"));
    assert_clear(&nobody_there.run(&["status"]).expect_code(3), &["control.sock"]);

    let device = device();
    let mode = fs::metadata(device.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    if !nix::unistd::geteuid().is_root() {
        return; // only root can become somebody else
    }
    // Somebody who is neither in the group nor an admin, and can reach the socket's folder.
    for folder in [device.dir(), &device.dir().join("run")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let tool = folder.path().join("synctl");
    fs::copy(binary("synctl"), &tool).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&tool);
    command.arg("--socket").arg(device.socket()).arg("status").uid(65_534).gid(65_534);
    assert_clear(&finish(command, "").expect_code(5), &["permission", "synesis"]);

    // And when the socket lets a stranger in, the daemon itself does not.
    fs::set_permissions(device.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let mut command = Command::new(&tool);
    command.arg("--socket").arg(device.socket()).args(["adapter", "off"]).uid(65_534).gid(65_534);
    assert_clear(&finish(command, "").expect_code(5), &[]);
}

fn daemon(config: &str) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("synesisd.toml");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(binary("synesisd"));
    command.args(["run", "--config"]).arg(&file);
    finish(command, "")
}

#[test]
fn a_bad_configuration_stops_the_daemon_with_its_own_code_and_a_suggestion() {
    let outcome = daemon("[model]\npaht = \"/tmp/x.gguf\"\n").expect_code(78);
    assert!(
        outcome.stderr.contains("model.paht") && outcome.stderr.contains("model.path"),
        "{}",
        outcome.stderr
    );
    let outcome = daemon("[routing]\npolicy = \"sometimes\"\n").expect_code(78);
    assert!(
        outcome.stderr.contains("routing.policy") && outcome.stderr.contains("auto"),
        "{}",
        outcome.stderr
    );
    let outcome = daemon("[model\n").expect_code(78);
    assert!(outcome.stderr.contains("synesisd.toml"), "{}", outcome.stderr);
    let mut command = Command::new(binary("synesisd"));
    command.args(["run", "--config", "/nonexistent/synesisd.toml"]);
    let outcome = finish(command, "").expect_code(78);
    assert!(outcome.stderr.contains("/nonexistent/synesisd.toml"), "{}", outcome.stderr);
    let mut command = Command::new(binary("synesisd"));
    command.arg("--no-such-flag");
    finish(command, "").expect_code(64);
}

#[test]
fn a_bad_gateway_configuration_has_the_same_code() {
    let folder = tempfile::tempdir().unwrap();
    let mut init = Command::new(binary("synesis-gateway"));
    init.args(["init", "--dir"]).arg(folder.path());
    finish(init, "").expect_code(0);
    fs::create_dir_all(folder.path().join("conf.d")).unwrap();
    fs::write(folder.path().join("conf.d/1.toml"), "lisen = \"127.0.0.1:0\"\n").unwrap();
    let mut serve = Command::new(binary("synesis-gateway"));
    serve.args(["serve", "--config"]).arg(folder.path().join("gateway.toml"));
    let outcome = finish(serve, "").expect_code(78);
    assert!(outcome.stderr.contains("lisen") && outcome.stderr.contains("listen"), "{}", outcome.stderr);
    // A second init must not overwrite keys.
    let mut again = Command::new(binary("synesis-gateway"));
    again.args(["init", "--dir"]).arg(folder.path());
    assert_ne!(finish(again, "").code, 0);
}

#[test]
fn a_model_file_that_is_cut_short_or_gone_degrades_the_daemon_and_does_not_stop_it() {
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.gguf");
    let whole = fs::read(model(SMOLLM)).unwrap();
    for (what, length) in [("in the tensors", whole.len() / 2), ("in the header", 1000), ("to nothing", 0)] {
        fs::write(&cut, &whole[..length]).unwrap();
        let device = Device::with_config(&format!("[model]\npath = \"{}\"\n", cut.display()));
        let status = device
            .ctl()
            .wait_for_status("a model that failed", |status| status["model"]["state"] == "failed");
        assert_eq!(status["state"], "degraded", "cut {what}: {status}");
        let runtime =
            status["subsystems"].as_array().and_then(|all| all.iter().find(|s| s["name"] == "runtime"));
        let runtime = runtime.unwrap_or_else(|| panic!("{status}"));
        assert!(
            runtime["reason"].as_str().is_some_and(|reason| reason.contains("cut.gguf")),
            "cut {what}: {runtime}"
        );
        assert!(runtime["next_step"].as_str().is_some_and(|step| !step.is_empty()), "cut {what}: {runtime}");
        let outcome = device.ctl().run(&["ask", "--local", "Hi"]).expect_code(1);
        assert_clear(&outcome, &[]);
    }
    let device =
        Device::with_config(&format!("[model]\npath = \"{}\"\n", folder.path().join("gone.gguf").display()));
    device.ctl().wait_for_status("a model that failed", |status| status["model"]["state"] == "failed");
    device.ctl().run(&["redact", "-"]).expect_code(0);
}

#[test]
fn usage_errors_of_the_command_line_have_code_two() {
    let ctl = Ctl::new(Path::new("/nonexistent.sock"));
    for args in [
        &["no-such-command"][..],
        &["ask", "--local", "--cloud", "Hi"],
        &["ask", "--max-tokens", "many", "Hi"],
    ] {
        let outcome = ctl.run(args).expect_code(2);
        assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty());
    }
}
