//! `synesisd` as a program: what it prints and its exit codes.

#![expect(clippy::unwrap_used, reason = "in tests, a step that fails is the failure")]

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Output};
use std::time::Duration;

fn synesisd(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_synesisd"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SYNESIS_")) {
        command.env_remove(name);
    }
    command.args(arguments).envs(variables.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_and_version_go_to_stdout_and_succeed() {
    for flag in ["--help", "--version"] {
        let output = synesisd(&[flag], &[]);
        assert_eq!(output.status.code(), Some(0), "{flag}");
        assert!(text(&output.stdout).contains("synesisd"), "{flag}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_64() {
    for line in [&[][..], &["walk"], &["run", "--fast"], &["config"], &["config", "show", "--config"]] {
        let output = synesisd(line, &[]);
        assert_eq!(output.status.code(), Some(64), "{line:?}");
        assert!(!output.stderr.is_empty(), "{line:?}");
    }
}

#[test]
fn a_bad_configuration_is_78_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("synesisd.toml");
    fs::write(&file, "[model]\npaht = \"/x\"\n").unwrap();
    let file = file.to_str().unwrap();
    for line in [&["run"][..], &["config", "check"], &["config", "show"]] {
        let output = synesisd(&[&["--config", file], line].concat(), &[]);
        assert_eq!(output.status.code(), Some(78), "{line:?}");
        let complaint = text(&output.stderr);
        assert!(complaint.contains("\"model.paht\"") && complaint.contains("\"model.path\""), "{complaint}");
        assert!(output.stdout.is_empty(), "{line:?}");
    }
    let missing = synesisd(&["config", "check", "--config", "/nonexistent/x.toml"], &[]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(text(&missing.stderr).contains("/nonexistent/x.toml"));
    let filter = synesisd(&["run", "--config", "/dev/null"], &[("SYNESIS_LOG", "synesisd=loud")]);
    assert_eq!(filter.status.code(), Some(78));
}

#[test]
fn what_is_shown_says_where_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("synesisd.toml");
    fs::write(&file, "[model]\nmax_tokens = 99\n").unwrap();
    let file = file.to_str().unwrap();
    let variables = [("SYNESIS_LOG_LEVEL", "debug")];
    let shown = text(&synesisd(&["config", "show", "--origin", "--config", file], &variables).stdout);
    let line =
        |start: &str| shown.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    assert!(line("max_tokens = 99").ends_with(&format!("# {file}")), "{shown}");
    assert!(line("level = \"debug\"").ends_with("# the environment (SYNESIS_LOG_LEVEL)"), "{shown}");
    assert!(line("threads = 0").ends_with("# default"), "{shown}");
    let json = text(&synesisd(&["config", "show", "--json", "--config", file], &[]).stdout);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["values"]["model.max_tokens"], 99);
    assert_eq!(synesisd(&["config", "check", "--config", file], &[]).status.code(), Some(0));
}

#[test]
fn a_state_folder_that_cannot_be_used_is_1_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let state = folder.path().join("file/state");
    let variables = [("SYNESIS_PATHS_STATE_DIR", state.to_str().unwrap())];
    let output = synesisd(&["run", "--config", "/dev/null"], &variables);
    assert_eq!(output.status.code(), Some(1));
    let complaint = text(&output.stderr);
    assert!(complaint.contains("cannot be created") && complaint.contains("paths.state_dir"), "{complaint}");
}

#[test]
fn it_says_when_it_is_ready_and_leaves_cleanly_when_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_synesisd"))
        .args(["run", "--config", "/dev/null"])
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .env("SYNESIS_PATHS_STATE_DIR", folder.path().join("state"))
        .env("SYNESIS_PATHS_RUNTIME_DIR", folder.path().join("run"))
        .spawn()
        .unwrap();
    let hear = |wanted: &str| {
        let mut heard = String::new();
        while !heard.lines().any(|line| line.starts_with(wanted)) {
            let mut message = [0; 4096];
            let length = manager
                .recv(&mut message)
                .unwrap_or_else(|error| panic!("no {wanted} after {heard}: {error}"));
            heard += &(text(&message[..length]) + "\n");
        }
        heard
    };
    hear("READY=1");
    let socket = folder.path().join("run/control.sock");
    UnixStream::connect(&socket).unwrap();
    let status = hear("STATUS=");
    assert!(status.contains("no model is configured"), "{status}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.id() as i32), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    hear("STOPPING=1");
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());
}
