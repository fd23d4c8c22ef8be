//! The proof holds, and breaks when a byte is changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use synesis_tests::ctl::finish;
use synesis_tests::device::Device;
use synesis_tests::gateway::Gateway;
use synesis_tests::provider::{Provider, Script};

fn sqlite(database: &Path, sql: &str) -> String {
    let mut command = Command::new("sqlite3");
    command.arg(database).arg(sql);
    finish(command, "").expect_code(0).stdout
}

#[test]
fn one_changed_byte_in_a_stored_receipt_fails_verification_and_names_it() {
    let provider = Provider::start(Script::Echo);
    let gateway = Gateway::with_provider(&provider);
    let mut device = Device::start();
    gateway.enroll(&device);
    let ctl = device.ctl();
    let ids: Vec<String> = ["one", "two", "three"]
        .iter()
        .map(|words| ctl.json(&["ask", "--cloud", words])["request_id"].as_str().expect("an id").to_owned())
        .collect();
    ctl.run(&["billing", "verify"]).expect_code(0);

    // Through SQL while the daemon runs: the lowest bit of one byte in the middle of the second receipt.
    let database = device.state_dir().join("journal.db");
    let row = format!("kind = 'receipt' AND key = '{}'", ids[1]);
    let body = sqlite(&database, &format!("SELECT hex(body) FROM journal WHERE {row}"));
    let mut bytes = unhex(body.trim());
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    sqlite(&database, &format!("UPDATE journal SET body = x'{}' WHERE {row}", hex(&bytes)));

    for _ in 0..2 {
        let outcome = device.ctl().run(&["--json", "billing", "verify"]).expect_code(1);
        let verdict = outcome.json();
        assert!(verdict["first_bad"].to_string().contains(&ids[1]), "names the receipt: {verdict}");
        assert_eq!(verdict["receipts"], 3);
        assert!(verdict["chain_ok"] == false || verdict["signatures_ok"] == false, "{verdict}");
        // And the same when a new daemon reads it.
        device.restart();
    }
}

#[test]
fn a_byte_flipped_in_the_file_itself_is_noticed() {
    let provider = Provider::start(Script::Echo);
    let gateway = Gateway::with_provider(&provider);
    let mut device = Device::start();
    gateway.enroll(&device);
    let id = device.ctl().json(&["ask", "--cloud", "one"])["request_id"].as_str().expect("an id").to_owned();
    // A clean stop moves everything into the one file.
    device.restart();
    device.ctl().run(&["billing", "verify"]).expect_code(0);
    let database = device.state_dir().join("journal.db");
    let mut bytes = fs::read(&database).unwrap();
    let name = b"big-model";
    let at =
        bytes.windows(name.len()).position(|window| window == name).expect("the receipt names the model");
    bytes[at] ^= 1;
    fs::write(&database, bytes).unwrap();
    device.kill_and_restart();
    let outcome = device.ctl().run(&["--json", "billing", "verify"]).expect_code(1);
    assert!(outcome.json()["first_bad"].to_string().contains(&id), "{}", outcome.stdout);
}

#[test]
fn a_removed_receipt_is_a_gap_in_the_chain() {
    let provider = Provider::start(Script::Echo);
    let gateway = Gateway::with_provider(&provider);
    let device = Device::start();
    gateway.enroll(&device);
    let ctl = device.ctl();
    for words in ["one", "two", "three"] {
        ctl.json(&["ask", "--cloud", words]);
    }
    let database = device.state_dir().join("journal.db");
    sqlite(
        &database,
        "DELETE FROM journal WHERE seq = (SELECT min(seq) + 1 FROM journal WHERE kind = 'receipt') OR key = (SELECT key FROM journal WHERE kind = 'receipt' ORDER BY seq LIMIT 1 OFFSET 1)",
    );
    let outcome = ctl.run(&["--json", "billing", "verify"]).expect_code(1);
    assert_eq!(outcome.json()["chain_ok"], false, "{}", outcome.stdout);
}

#[test]
fn a_device_whose_journal_cannot_be_opened_answers_locally_and_says_why() {
    let mut device = Device::scripted("{}", "");
    device.ctl().wait_for_model();
    let database = device.state_dir().join("journal.db");
    fs::write(&database, "the header of this file is gone").unwrap();
    for beside in ["journal.db-wal", "journal.db-shm"] {
        // What a clean stop would have taken away.
        let _ = fs::remove_file(device.state_dir().join(beside));
    }
    device.kill_and_restart();
    let ctl = device.ctl();
    ctl.wait_for_model();
    ctl.run(&["ask", "--local", "still there?"]).expect_code(0);
    let status = ctl.wait_for_status("degraded", |status| status["state"] == "degraded");
    assert!(status.to_string().contains("the journal cannot be opened"), "{status}");
    assert!(fs::read(&database).unwrap().starts_with(b"the header"), "what is there is left for a rescue");
    ctl.run(&["billing", "verify"]).expect_code(1);
}

#[test]
fn a_device_without_receipts_verifies() {
    let device = Device::scripted("{}", "");
    let verified = device.ctl().json(&["billing", "verify"]);
    assert_eq!((&verified["receipts"], &verified["total_nanousd"]), (&0.into(), &0.into()));
    assert!(verified["first_bad"].is_null());
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
