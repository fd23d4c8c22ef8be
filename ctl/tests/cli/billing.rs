//! `billing`: receipts made with real keys, then damaged.

use serde_json::{Value, json};
use synesis_ledger::{NanoUsd, Receipt, SignedReceipt, SigningKey, Tier};
use synesis_proto::control::v1::*;

use crate::fake::{Asked, Fake, Script};
use crate::run::{at, synctl};

pub(crate) const REQUEST: &str = "01JGFJJZ00000000000000000A";

fn key() -> SigningKey {
    SigningKey::generate([7; 32])
}

fn receipt(seq: u64, request_id: &str, prev_hash: [u8; 32]) -> Receipt {
    let usd = NanoUsd::from_i64;
    Receipt {
        account: "acme".into(),
        device: "d-1".into(),
        request_id: request_id.into(),
        model: "gemma".into(),
        adapter_generation: 0,
        input_tokens: 10,
        output_tokens: 20,
        tier: Tier::Managed,
        cost: usd(1_000),
        fee: usd(30),
        credits_used: usd(0),
        net: usd(1_030),
        price_version: 1,
        redacted_hash: [9; 32],
        seq,
        prev_hash,
        issued_at_ms: 1_767_225_600_000,
    }
}

/// The first receipt of a chain, signed.
pub(crate) fn signed(seq: u64, request_id: &str) -> SignedReceipt {
    key().sign(receipt(seq, request_id, [0; 32]))
}

/// Three receipts that hold together, as the device stores them.
fn chain() -> Vec<StoredReceipt> {
    let mut previous = [0; 32];
    ["req-a", "req-b", "req-c"]
        .iter()
        .zip(1..)
        .map(|(request_id, seq)| {
            let receipt = receipt(seq, request_id, previous);
            previous = receipt.hash();
            StoredReceipt {
                row: seq * 2,
                signed_receipt: key().sign(receipt).to_bytes(),
                request_id: (*request_id).to_owned(),
                ..StoredReceipt::default()
            }
        })
        .collect()
}

fn fake(receipts: Vec<StoredReceipt>) -> Fake {
    let keys = vec![ReceiptKey { key_id: key().key_id().to_owned(), public_key: key().public().to_vec() }];
    Fake::start(Script { receipts, keys, ..Script::default() })
}

fn verified(fake: &Fake, code: i32) -> Value {
    synctl(&fake.socket, &["billing", "verify", "--json"]).expect(code).object()
}

#[test]
fn the_balance_is_integers_and_null_for_no_limit() {
    let balance = BalanceReply {
        tier: "managed".into(),
        unbilled_nanousd: 123_456,
        credits_nanousd: 5,
        held_nanousd: 0,
        ceiling_nanousd: Some(10_000_000_000),
        quota_left_nanousd: None,
        account: "acme".into(),
    };
    let fake = Fake::start(Script { balance, ..Script::default() });
    let object = synctl(&fake.socket, &["billing", "balance", "--json"]).expect(0).object();
    let expected = json!({
        "schema": "synesis.balance/1", "account": "acme", "tier": "managed", "unbilled_nanousd": 123_456,
        "credits_nanousd": 5, "held_nanousd": 0, "ceiling_nanousd": 10_000_000_000_u64, "quota_left_nanousd": null,
    });
    assert_eq!(object, expected);
    let human = synctl(&fake.socket, &["billing", "balance"]).expect(0);
    assert!(human.stdout.contains("unbilled    $0.000123456\n"), "{}", human.stdout);
}

#[test]
fn receipts_are_one_object_per_line() {
    let fake = fake(chain());
    let ended = synctl(&fake.socket, &["billing", "receipts", "--json", "--limit", "3"]).expect(0);
    let requests: Vec<Value> =
        ended.objects().iter().map(|object| at(object, "request_id").clone()).collect();
    assert_eq!(requests, ["req-a", "req-b", "req-c"]);
    assert_eq!(ended.objects()[0]["issued_at"], "2026-01-01T00:00:00Z");
    assert!(matches!(fake.asked().pop(), Some(Asked::Receipts(ReceiptsRequest { limit: 3, open: false }))));
    let human = synctl(&fake.socket, &["billing", "receipts"]).expect(0);
    assert!(human.stdout.lines().all(|line| line.contains("$0.00000103")), "{}", human.stdout);
}

#[test]
fn a_gap_that_an_open_request_explains_is_pending() {
    let mut rows = chain();
    rows.remove(1);
    let broken = verified(&fake(rows.clone()), 1);
    assert_eq!((&broken["chain_ok"], &broken["pending"]), (&json!(false), &json!(0)));
    rows.push(StoredReceipt {
        request_id: "req-b".into(),
        device: "d-1".into(),
        kind: StoredKind::Open.into(),
        ..StoredReceipt::default()
    });
    let fake = fake(rows);
    let pending = verified(&fake, 0);
    assert_eq!((&pending["receipts"], &pending["chain_ok"]), (&json!(2), &json!(true)));
    assert_eq!((&pending["pending"], &pending["first_bad"]), (&json!(1), &Value::Null));
    let human = synctl(&fake.socket, &["billing", "verify"]).expect(0);
    assert!(human.stdout.contains("ok, 1 receipt pending"), "{}", human.stdout);
}

#[test]
fn a_damaged_row_that_is_no_receipt_breaks_the_chain_and_no_signature() {
    let mut rows = chain();
    rows.push(StoredReceipt {
        row: 3,
        fault: "its hash does not match".into(),
        kind: StoredKind::Journal.into(),
        ..StoredReceipt::default()
    });
    let fake = fake(rows);
    let found = verified(&fake, 1);
    let told = ["receipts", "signatures_ok", "chain_ok"].map(|key| found[key].clone());
    assert_eq!(told, [json!(3), json!(true), json!(false)]);
    assert_eq!(found["first_bad"]["why"], "row 3 of the journal: its hash does not match");
    let listed = synctl(&fake.socket, &["billing", "receipts", "--json"]).expect(1);
    assert_eq!(listed.objects().len(), 3, "only receipts are listed");
}

#[test]
fn a_damaged_receipt_is_listed_in_its_place_and_fails_the_command() {
    let mut rows = chain();
    rows[1].signed_receipt.truncate(20);
    let ended = synctl(&fake(rows).socket, &["billing", "receipts", "--json"]).expect(1);
    let objects = ended.objects();
    assert_eq!(objects.len(), 3);
    assert_eq!(objects[1]["schema"], "synesis.receipt_fault/1");
    assert_eq!(objects[1]["request_id"], "req-b");
    assert_eq!(ended.error()["reason"], "RECEIPT_DAMAGED");
}

#[test]
fn a_sound_chain_verifies() {
    let object = verified(&fake(chain()), 0);
    let expected = json!({
        "schema": "synesis.verification/1", "receipts": 3, "chain_ok": true, "pending": 0,
        "signatures_ok": true, "total_nanousd": 3_090, "first_bad": null,
    });
    assert_eq!(object, expected);
    let human = synctl(&fake(chain()).socket, &["billing", "verify"]).expect(0);
    assert!(human.stdout.contains("signatures  ok\nchain       ok\n"), "{}", human.stdout);
}

#[test]
fn no_receipts_verify_too() {
    let object = verified(&Fake::start(Script::default()), 0);
    assert_eq!(*at(&object, "receipts"), json!(0));
}

#[test]
fn changing_any_one_byte_of_a_receipt_names_it() {
    let length = chain()[1].signed_receipt.len();
    // Every sixteenth byte: the lengths, the fields, the signature.
    for position in (0..length).step_by(16).chain([length - 1]) {
        let mut rows = chain();
        rows[1].signed_receipt[position] ^= 1;
        let object = verified(&fake(rows), 1);
        assert_eq!(*at(&object, "first_bad.request_id"), json!("req-b"), "byte {position}: {object}");
        let holds = at(&object, "chain_ok") == &json!(true) && at(&object, "signatures_ok") == &json!(true);
        assert!(!holds, "byte {position}");
    }
}

#[test]
fn a_row_that_the_journal_finds_faulty_is_bad_even_if_it_decodes() {
    let mut rows = chain();
    rows[2].fault = "the row's hash does not match its content".into();
    let fake = fake(rows);
    let object = verified(&fake, 1);
    assert_eq!(object["first_bad"]["request_id"], "req-c");
    assert_eq!(object["first_bad"]["why"], "the row's hash does not match its content");
    let ended = synctl(&fake.socket, &["billing", "verify"]);
    ended.expect_failure(1, "the receipts do not verify: request req-c");
}

#[test]
fn a_receipt_filed_under_another_request_is_bad() {
    let mut rows = chain();
    rows[0].request_id = "req-z".into();
    let object = verified(&fake(rows), 1);
    assert_eq!(object["first_bad"]["request_id"], "req-z");
}

#[test]
fn a_missing_receipt_breaks_the_chain_but_not_the_signatures() {
    let mut rows = chain();
    rows.remove(1);
    let object = verified(&fake(rows), 1);
    assert_eq!((at(&object, "chain_ok"), at(&object, "signatures_ok")), (&json!(false), &json!(true)));
    assert_eq!(object["first_bad"]["request_id"], "req-c");
}

#[test]
fn receipts_without_a_pinned_key_do_not_verify() {
    let fake = Fake::start(Script { receipts: chain(), ..Script::default() });
    let object = verified(&fake, 1);
    assert_eq!((at(&object, "chain_ok"), at(&object, "signatures_ok")), (&json!(true), &json!(false)));
}

#[test]
fn a_key_that_is_none_is_refused() {
    let keys = vec![ReceiptKey { key_id: "short".into(), public_key: vec![1; 31] }];
    let fake = Fake::start(Script { keys, ..Script::default() });
    synctl(&fake.socket, &["billing", "verify"]).expect_failure(1, "does not have 32 bytes");
}
