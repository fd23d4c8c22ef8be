//! OpenAI's API as its own clients use it: the official Python package and one that shares no code with it, over the
//! socket and over the loopback port, against a real daemon with a real model where the answer matters, and with the
//! scripted one where it has to be a certain answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use synesis_tests::device::Device;
use synesis_tests::gateway::Gateway;
use synesis_tests::provider::{Provider, Script};

/// Opens a port that the kernel chooses.
const PORT: &str = "[openai]\nlisten = \"127.0.0.1:0\"\n";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the repository")
}

/// The Python of the environment that `packaging/fetch-clients` makes.
fn python() -> PathBuf {
    let script = repository().join("packaging/fetch-clients");
    let said = Command::new(&script).arg("--where").output().expect("bash and python3 are there");
    let folder = String::from_utf8(said.stdout).expect("a path");
    let environment = PathBuf::from(folder.trim());
    let whole = environment.join(".ok").is_file();
    assert!(whole, "the clients are not installed in {}; run packaging/fetch-clients", environment.display());
    environment.join("bin/python")
}

/// Over which of the two ways a client comes.
enum Way {
    Socket,
    Port,
}

/// Runs checks of `tests/clients/SCRIPT`; all of them have to hold.
fn check(device: &Device, script: &str, way: Way, checks: &[&str]) {
    check_with(device, script, way, checks, &[]);
}

/// The same with more in the environment.
fn check_with(device: &Device, script: &str, way: Way, checks: &[&str], more: &[(&str, &Path)]) {
    let mut command = Command::new(python());
    command.arg(repository().join("tests/clients").join(script));
    match way {
        Way::Socket => command.arg("--socket").arg(device.dir().join("run/openai.sock")),
        Way::Port => command
            .args(["--url", &format!("http://{}/v1", address(device)), "--token-file"])
            .arg(device.state_dir().join("openai-token")),
    };
    command.args(checks).env("PYTHONDONTWRITEBYTECODE", "1").envs(more.iter().copied());
    let said = command.output().expect("python runs");
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(
        said.status.success(),
        "{script} {checks:?}:\n{out}\n{err}\n---- the daemon ----\n{}",
        device.log()
    );
    let held = out.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(held, checks.len(), "every check says so:\n{out}");
}

/// Where the port is, as the daemon logged it.
fn address(device: &Device) -> String {
    let log = device.log();
    let line = log.lines().find(|line| line.contains("OpenAI's API") && line.contains("127.0.0.1:"));
    let line = line.unwrap_or_else(|| panic!("no port is open:\n{log}"));
    let port = line.split("127.0.0.1:").nth(1).expect("found above");
    format!("127.0.0.1:{}", port.chars().take_while(char::is_ascii_digit).collect::<String>())
}

#[test]
fn the_official_client_works_unchanged_over_the_socket() {
    let device = Device::start();
    device.ctl().wait_for_model();
    let checks = ["models", "whole", "stream", "helper", "left", "stop", "length", "sessions", "many"];
    check(&device, "official.py", Way::Socket, &checks);
}

#[test]
fn the_official_client_has_probabilities_formats_and_plain_completions() {
    let device = Device::start();
    device.ctl().wait_for_model();
    check(&device, "official.py", Way::Socket, &["logprobs", "formats", "completions"]);
}

#[test]
fn the_official_client_works_unchanged_over_the_port_and_strangers_do_not_get_in() {
    let device = Device::with_config(PORT);
    device.ctl().wait_for_model();
    check(&device, "official.py", Way::Port, &["models", "whole", "stream", "many", "refusals", "strangers"]);
    let token = std::fs::read_to_string(device.state_dir().join("openai-token")).unwrap();
    let log = device.log();
    assert!(!log.contains(token.trim()), "the token is in the log");
    assert!(!log.contains("capital of France"), "a prompt is in the log");
}

#[test]
fn a_client_of_another_maker_works_unchanged_both_ways() {
    let device = Device::with_config(PORT);
    device.ctl().wait_for_model();
    for way in [Way::Socket, Way::Port] {
        check(&device, "independent.py", way, &["whole", "stream", "logprobs", "refusals"]);
    }
}

#[test]
fn refusals_are_the_client_s_own_exceptions() {
    let device = Device::scripted("{}", "");
    device.ctl().wait_for_model();
    check(&device, "official.py", Way::Socket, &["refusals", "no_vectors"]);
    let hasty = Device::scripted("{}", "[ipc]\nrequests_per_minute = 3\n");
    check(&hasty, "official.py", Way::Socket, &["too_often"]);
}

#[test]
fn a_real_model_makes_vectors_once_the_configuration_says_so() {
    let device = Device::with_config(&format!("[model]\nembeddings = \"mean\"\n{PORT}"));
    device.ctl().wait_for_model();
    check(&device, "official.py", Way::Socket, &["real_vectors", "whole"]);
    check(&device, "official.py", Way::Port, &["real_vectors"]);
    let info = device.ctl().json(&["model", "info"]);
    assert_eq!((&info["makes_embeddings"], &info["embedding_width"]), (&true.into(), &576.into()));
    assert_eq!(device.ctl().json(&["status"])["model"]["makes_embeddings"], true);

    let device = Device::start();
    device.ctl().wait_for_model();
    check(&device, "official.py", Way::Socket, &["no_vectors"]);
    assert_eq!(device.ctl().json(&["status"])["model"]["makes_embeddings"], false);
}

#[test]
fn tools_vectors_and_broken_answers_arrive_as_the_client_expects_them() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = r#"{
        "embeddings": [0.5, -1.0],
        "answers": [
            {"match": "it rains", "say": ["Take an umbrella: ", "it rains"]},
            {"match": "Oslo", "say": ["<tool_", "call>{\"name\": \"weather\", \"arguments\"", ": {\"city\": \"Oslo\"}}</tool_call>"]},
            {"match": "die", "say": ["al", "most"], "wait_after": 2, "wait_on": "GO", "then": "abort"}
        ]
    }"#;
    let device = Device::scripted(&script.replace("GO", go.to_str().unwrap()), "");
    device.ctl().wait_for_model();
    check_with(
        &device,
        "official.py",
        Way::Socket,
        &["tools", "vectors", "broken"],
        &[("SYNESIS_TEST_GO", &go)],
    );
}

#[test]
fn what_goes_to_the_cloud_is_redacted_restored_charged_and_limited_as_ever() {
    let provider = Provider::start(Script::Echo);
    let gateway = Gateway::with_provider(&provider);
    let device = Device::scripted("{}", "");
    gateway.enroll(&device);
    device.ctl().wait_for_model();
    check(&device, "official.py", Way::Socket, &["cloud"]);
    let bodies = provider.bodies();
    assert_eq!(bodies.len(), 2);
    for body in bodies {
        assert!(body.contains("[EMAIL_") && !body.contains("ada.lovelace"), "{body}");
    }
    assert!(!device.log().contains("ada.lovelace"), "a prompt is in the log");

    let poor = Device::scripted("{}", "[billing]\ndaily_limit_usd = \"0.000001\"\n");
    gateway.account("poor", &["--tier", "managed"]);
    gateway.enroll_with(&poor, &gateway.token_file("poor", &[])).expect_code(0);
    poor.ctl().wait_for_tunnel();
    check(&poor, "official.py", Way::Socket, &["budget"]);
}
