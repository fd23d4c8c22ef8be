//! Completions and man pages, made by the real binary without a daemon.

use std::path::Path;

use crate::run::synctl;

const NOWHERE: &str = "/nonexistent/control.sock";

#[test]
fn every_shell_gets_completions_that_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = synctl(Path::new(NOWHERE), &["completions", shell]).expect(0);
        assert!(ended.stdout.contains("reconnect") && ended.stdout.contains("token-file"), "{shell}");
    }
}

#[test]
fn every_command_gets_a_man_page() {
    let dir = tempfile::tempdir().unwrap();
    synctl(Path::new(NOWHERE), &["man", "--dir", dir.path().to_str().unwrap()]).expect(0);
    for page in ["synctl.1", "synctl-ask.1", "synctl-billing-verify.1", "synctl-adapter-import.1"] {
        let text = std::fs::read_to_string(dir.path().join(page)).unwrap();
        assert!(text.starts_with(".ie") && text.contains("Exit codes"), "{page}");
    }
}

#[test]
fn a_folder_that_is_not_there_fails() {
    synctl(Path::new(NOWHERE), &["man", "--dir", "/nonexistent/man"]).expect_failure(9, "cannot write");
}

#[test]
fn the_version_and_the_help_go_to_standard_output() {
    let version = synctl(Path::new(NOWHERE), &["--version"]).expect(0);
    assert!(version.stdout.starts_with("synctl 0."), "{}", version.stdout);
    let help = synctl(Path::new(NOWHERE), &["billing", "verify", "--help"]).expect(0);
    assert!(help.stdout.contains("124  timed out"), "{}", help.stdout);
    assert_eq!(help.stderr, "");
}
