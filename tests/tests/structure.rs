//! Rules about the source itself that a compiler does not hold.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace")
}

/// Every Rust file below `folder`, with its path relative to the workspace and its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut open = vec![root.join(folder)];
    while let Some(folder) = open.pop() {
        for entry in
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())).flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("below the root").display().to_string();
                found.push((name, fs::read_to_string(&path).expect("UTF-8")));
            }
        }
    }
    assert!(!found.is_empty(), "no Rust file below {folder}");
    found
}

/// P1: one file turns a request into bytes for the tunnel, and it takes a `Redacted` (docs/adr/0007).
#[test]
fn only_one_file_of_the_daemon_builds_what_enters_the_tunnel() {
    let builders: Vec<String> = sources("daemon/src")
        .into_iter()
        // Whoever builds a message of the tunnel names its package; others may have prompts of their own.
        .filter(|(_, text)| text.contains("mesh::"))
        .filter(|(_, text)| {
            ["AskStart {", "Prompt {", "PromptMessage {"].iter().any(|name| text.contains(name))
        })
        .map(|(name, _)| name)
        .collect();
    assert_eq!(builders, ["daemon/src/escalation/wire.rs"]);
    let wire = fs::read_to_string(root().join("daemon/src/escalation/wire.rs")).unwrap();
    assert!(wire.contains("fn new(redacted: &Redacted, wishes: &Wishes)"), "it is made from a Redacted");
    for text in
        ["pub stop: Redacted,", "pub tools: Option<RedactedJson>,", "pub json_schema: Option<RedactedJson>,"]
    {
        assert!(wire.contains(text), "{text}");
    }
    let wishes = wire.split("pub struct Wishes {").nth(1).and_then(|rest| rest.split('}').next()).unwrap();
    assert!(!wishes.contains("String"), "no clear text is wished for: {wishes}");
}

/// The daemon's HTTP client fetches models. No prompt can reach it.
#[test]
fn only_the_store_of_models_has_an_http_client() {
    let users: Vec<String> = sources("daemon/src")
        .into_iter()
        .filter(|(_, text)| text.contains("reqwest"))
        .map(|(name, _)| name)
        .collect();
    assert!(!users.is_empty(), "the client has another name");
    assert!(users.iter().all(|name| name.starts_with("daemon/src/models/")), "{users:?}");
}

/// A `Redacted` comes from the policy and from nowhere else.
#[test]
fn only_the_policy_makes_a_redacted() {
    let makers: Vec<String> = sources("lib/privacy/src")
        .into_iter()
        .filter(|(_, text)| {
            text.lines().any(|line| {
                ["Redacted {", "RedactedJson {"].iter().any(|name| line.contains(name))
                    && !is_declaration(line)
            })
        })
        .map(|(name, _)| name)
        .collect();
    assert_eq!(makers, ["lib/privacy/src/policy.rs"]);
}

fn is_declaration(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("pub struct") || line.starts_with("impl")
}

#[test]
fn a_main_is_a_table_of_contents() {
    for main in ["daemon/src/main.rs", "runtime/src/main.rs", "ctl/src/main.rs", "cloud/gateway/src/main.rs"]
    {
        let lines = fs::read_to_string(root().join(main)).unwrap().lines().count();
        assert!(lines < 80, "{main} has {lines} lines");
    }
}

#[test]
fn nothing_is_called_util_common_or_manager() {
    let listed = Command::new("git").args(["ls-files"]).current_dir(root()).output().expect("git");
    let names = String::from_utf8(listed.stdout).expect("UTF-8");
    assert!(names.lines().count() > 100, "git lists the tree");
    for name in names.lines() {
        for part in name.split(['/', '.', '_', '-']) {
            assert!(!["util", "utils", "common", "manager", "helpers"].contains(&part), "{name}");
        }
    }
    for folder in ["proto", "lib", "daemon", "runtime", "ctl", "cloud", "tests"] {
        for (name, text) in sources(folder).into_iter().filter(|(name, _)| name.contains("/src/")) {
            assert!(!text.contains(concat!("Man", "ager {")), "{name} names a type so");
        }
    }
}

/// Every reason of the local API is explained where users look.
#[test]
fn the_documentation_explains_every_reason() {
    let document = fs::read_to_string(root().join("docs/errors.md")).unwrap();
    for reason in synesis_proto::reason::ALL {
        assert!(document.contains(&format!("`{reason}`")), "{reason} is not in docs/errors.md");
    }
}
