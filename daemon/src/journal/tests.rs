//! The journal on a real file: what survives, what is refused, what is shown.

use std::path::Path;

use synesis_ledger::{KeyRing, Receipt, SignedReceipt, SigningKey, Tier};
use synesis_store::rusqlite;
use tempfile::TempDir;

use super::*;

const NOW_MS: i64 = 1_700_000_000_000;
const HASH: [u8; 32] = [9; 32];

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(NOW_MS.unsigned_abs())
}

fn key() -> SigningKey {
    SigningKey::generate([7; 32])
}

fn ring() -> KeyRing {
    let mut ring = KeyRing::new();
    ring.insert(key().public()).unwrap();
    ring
}

fn intent(request_id: &str) -> Intent {
    Intent {
        request_id: request_id.to_owned(),
        device_id: "device".to_owned(),
        redacted_hash: hex::encode(HASH),
        detector_version: "1".to_owned(),
        at_ms: NOW_MS,
        most_nanousd: Some(500),
    }
}

fn receipt(seq: u64, request_id: &str, prev_hash: [u8; 32]) -> Receipt {
    Receipt {
        account: "acme".to_owned(),
        device: "device".to_owned(),
        request_id: request_id.to_owned(),
        model: "big".to_owned(),
        adapter_generation: 0,
        input_tokens: 1,
        output_tokens: 1,
        tier: Tier::Managed,
        cost: NanoUsd::from_i64(100),
        fee: NanoUsd::from_i64(3),
        credits_used: NanoUsd::ZERO,
        net: NanoUsd::from_i64(103),
        price_version: 1,
        redacted_hash: HASH,
        seq,
        prev_hash,
        issued_at_ms: NOW_MS,
    }
}

/// Receipts 1 to n of the requests `r1` to `rn`.
fn chain_of(n: u64) -> Vec<Receipt> {
    let mut chain: Vec<Receipt> = Vec::new();
    for seq in 1..=n {
        let prev = chain.last().map_or([0; 32], Receipt::hash);
        chain.push(receipt(seq, &format!("r{seq}"), prev));
    }
    chain
}

fn signed(receipt: &Receipt) -> Vec<u8> {
    key().sign(receipt.clone()).to_bytes()
}

async fn open(folder: &TempDir) -> DeviceJournal {
    let (journal, recovery) = DeviceJournal::open(folder.path()).await.unwrap();
    assert_eq!(recovery.warning(), None);
    journal
}

/// Begins the receipt's request and takes the receipt.
async fn charge(journal: &DeviceJournal, receipt: &Receipt) {
    let open = journal.begin(intent(&receipt.request_id)).await.unwrap();
    journal.accept(&open.intent, &signed(receipt), &ring()).await.unwrap();
}

fn damage(folder: &Path, sql: &str, key: &str) {
    let file = rusqlite::Connection::open(folder.join("journal.db")).unwrap();
    assert_eq!(file.execute(sql, [key]).unwrap(), 1);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_the_file_was_opened_again() {
    let folder = TempDir::new().unwrap();
    let chain = chain_of(1);
    {
        let journal = open(&folder).await;
        charge(&journal, &chain[0]).await;
        let refused = journal.begin(intent("refused")).await.unwrap();
        journal.close("refused", OutcomeKind::Refused).await.unwrap();
        drop(refused);
        let pinned = ReceiptKey { key_id: key().key_id().to_owned(), public_key: key().public() };
        journal.pin(std::slice::from_ref(&pinned)).await.unwrap();
        journal.pin(&[pinned]).await.unwrap();
        journal.shut().await;
    }
    let journal = open(&folder).await;
    assert!(journal.unsettled().is_empty());
    assert_eq!(*journal.pending().borrow(), 0);
    assert_eq!(journal.committed(now()), NanoUsd::from_i64(103));
    assert_eq!(journal.receipt_keys().len(), 1);
    assert_eq!(journal.rows.open().unwrap().rows(RECEIPT_KEY).await.unwrap().len(), 1, "pinned once");
    let rows = journal.receipts().await.unwrap();
    assert_eq!(SignedReceipt::from_bytes(&rows[0].body).unwrap().receipt, chain[0]);
    assert!(journal.verify().await.unwrap().holds());
    // The chain goes on where it was.
    assert!(journal.accept(&intent("x"), &signed(&receipt(2, "x", [1; 32])), &ring()).await.is_err());
}

#[tokio::test]
async fn an_intent_that_a_power_cut_left_open_is_unsettled_and_counts_with_what_it_may_cost() {
    let folder = TempDir::new().unwrap();
    {
        let journal = open(&folder).await;
        let running = journal.begin(intent("cut")).await.unwrap();
        assert!(journal.unsettled().is_empty(), "somebody is working on it");
        assert_eq!(*journal.pending().borrow(), 1);
        // Nothing is written about how it ended, as when the power goes.
        journal.shut().await;
        drop(running);
    }
    let journal = open(&folder).await;
    assert_eq!(journal.unsettled(), [intent("cut")]);
    assert_eq!(*journal.pending().borrow(), 1);
    assert_eq!(journal.committed(now()), NanoUsd::from_i64(500));
}

#[tokio::test]
async fn a_request_that_is_let_go_wakes_the_reconciler_and_counts_from_then_on() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder).await;
    let running = journal.begin(intent("a")).await.unwrap();
    running.promised(NanoUsd::from_i64(40));
    assert_eq!(journal.committed(now()), NanoUsd::from_i64(40));
    drop(running);
    journal.let_go().await;
    assert_eq!(journal.unsettled(), [intent("a")]);
    assert_eq!(journal.committed(now()), NanoUsd::from_i64(40));
    journal.close("a", OutcomeKind::Released).await.unwrap();
    assert_eq!(journal.committed(now()), NanoUsd::ZERO);
}

#[tokio::test]
async fn a_receipt_that_does_not_hold_is_refused_and_its_request_stays_open() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder).await;
    let first = receipt(1, "first", [0; 32]);
    charge(&journal, &first).await;
    drop(journal.begin(intent("r")).await.unwrap());
    let good = receipt(2, "r", first.hash());

    let stranger = SigningKey::generate([8; 32]).sign(good.clone()).to_bytes();
    let mut forged = signed(&good);
    *forged.last_mut().unwrap() ^= 1;
    let fork = receipt(1, "r", [0; 32]);
    let astray = receipt(2, "r", [1; 32]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("Undecodable", b"no receipt".to_vec()),
        ("Signature(UnknownKey", stranger),
        ("Signature(BadSignature", forged),
        ("Mismatch(\"request\")", signed(&receipt(2, "other", first.hash()))),
        ("Mismatch(\"device\")", signed(&Receipt { device: "other".to_owned(), ..good.clone() })),
        ("Mismatch(\"prompt\")", signed(&Receipt { redacted_hash: [0; 32], ..good.clone() })),
        ("Amounts", signed(&Receipt { net: NanoUsd::from_i64(104), ..good.clone() })),
        ("Chain(Fork(1))", signed(&fork)),
        ("Chain(Before(1))", signed(&astray)),
    ];
    for (expected, bytes) in cases {
        let error = journal.accept(&intent("r"), &bytes, &ring()).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{expected}: {error:?}");
        assert_eq!(journal.unsettled(), [intent("r")], "{expected}");
    }
    assert_eq!(journal.receipts().await.unwrap().len(), 1);
    let doubt = journal.doubts().borrow().get("r").cloned();
    assert!(doubt.is_some_and(|why| why.contains("was not accepted")), "{:?}", journal.doubts().borrow());
    journal.accept(&intent("r"), &signed(&good), &ring()).await.unwrap();
    assert!(journal.unsettled().is_empty());
    assert!(journal.doubts().borrow().is_empty(), "a good one has taken its place");
}

#[tokio::test]
async fn the_same_receipt_twice_is_one_row() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder).await;
    let (first, bytes, keys) = (intent("r1"), signed(&chain_of(1)[0]), ring());
    let (one, two) =
        tokio::join!(journal.accept(&first, &bytes, &keys), journal.accept(&first, &bytes, &keys));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(journal.receipts().await.unwrap().len(), 1);
    assert_eq!(journal.committed(now()), NanoUsd::from_i64(103));
}

#[tokio::test]
async fn a_caller_who_leaves_while_a_receipt_is_stored_does_not_make_it_two() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder).await;
    let (first, bytes, keys) = (intent("r1"), signed(&chain_of(1)[0]), ring());
    {
        let mut left = std::pin::pin!(journal.accept(&first, &bytes, &keys));
        let mut polled = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(left.as_mut().poll(&mut polled).is_pending(), "the row is on its way to the disk");
    }
    journal.accept(&first, &bytes, &keys).await.unwrap();
    assert_eq!(journal.receipts().await.unwrap().len(), 1);
    journal.shut().await;
    drop(journal);
    assert_eq!(
        open(&folder).await.committed(now()),
        NanoUsd::from_i64(103),
        "counted once after a restart too"
    );
}

#[tokio::test]
async fn receipts_come_in_the_order_of_their_chain_and_a_damaged_one_keeps_its_place() {
    let folder = TempDir::new().unwrap();
    let chain = chain_of(4);
    let journal = open(&folder).await;
    for at in [1, 0, 2, 3] {
        charge(&journal, &chain[at]).await;
    }
    let order =
        |rows: Vec<synesis_store::JournalRow>| rows.into_iter().map(|row| row.key).collect::<Vec<_>>();
    assert_eq!(order(journal.receipts().await.unwrap()), ["r1", "r2", "r3", "r4"]);
    journal.shut().await;
    drop(journal);

    // One bit of the third receipt's sequence number or hash: it still decodes, and must not be believed.
    damage(folder.path(), "UPDATE journal SET body = x'00' WHERE kind = 'receipt' AND key = ?1", "r3");
    let (journal, _) = DeviceJournal::open(folder.path()).await.unwrap();
    let rows = journal.receipts().await.unwrap();
    let faults: Vec<bool> = rows.iter().map(|row| row.fault.is_some()).collect();
    assert_eq!(faults, [false, false, true, false]);
    assert_eq!(order(rows), ["r1", "r2", "r3", "r4"]);
    assert_eq!(journal.doubts().borrow().get("r3").map(String::as_str), Some("is damaged on disk"));
    assert!(!journal.verify().await.unwrap().holds());
    assert!(journal.unsettled().is_empty(), "a receipt came for it, whatever became of the row");
}

#[tokio::test]
async fn a_damaged_receipt_does_not_keep_the_next_one_out() {
    let folder = TempDir::new().unwrap();
    let chain = chain_of(2);
    let journal = open(&folder).await;
    charge(&journal, &chain[0]).await;
    journal.shut().await;
    drop(journal);

    // It decodes, and says another price.
    let file = rusqlite::Connection::open(folder.path().join("journal.db")).unwrap();
    let changed = signed(&Receipt { input_tokens: 99, ..chain[0].clone() });
    file.execute("UPDATE journal SET body = ?1 WHERE kind = 'receipt'", [changed]).unwrap();
    drop(file);
    let (journal, _) = DeviceJournal::open(folder.path()).await.unwrap();
    charge(&journal, &chain[1]).await;
    assert!(journal.receipts().await.unwrap()[0].fault.is_some());
}

#[tokio::test]
async fn a_receipt_key_whose_row_was_changed_is_not_trusted() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder).await;
    let pinned = ReceiptKey { key_id: "k".to_owned(), public_key: key().public() };
    journal.pin(std::slice::from_ref(&pinned)).await.unwrap();
    journal.shut().await;
    drop(journal);
    damage(folder.path(), "UPDATE journal SET body = zeroblob(32) WHERE key = ?1", "k");
    let (journal, _) = DeviceJournal::open(folder.path()).await.unwrap();
    assert!(journal.receipt_keys().is_empty());
    journal.pin(std::slice::from_ref(&pinned)).await.unwrap();
    assert_eq!(journal.receipt_keys(), [pinned], "enrolling again brings it back");
}

#[tokio::test]
async fn a_journal_that_takes_no_writes_lets_nothing_leave() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder).await;
    journal.shut().await;
    assert!(matches!(journal.begin(intent("a")).await, Err(JournalError::Store(_))));
    assert_eq!(*journal.pending().borrow(), 0);
    assert!(journal.unsettled().is_empty());
}

#[tokio::test]
async fn a_receipt_dated_another_day_counts_on_its_request_s_day_also_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder).await;
    let tomorrow = Receipt { issued_at_ms: NOW_MS + 24 * 60 * 60 * 1000, ..receipt(1, "r1", [0; 32]) };
    charge(&journal, &tomorrow).await;
    let (today, day) = (NanoUsd::from_i64(103), std::time::Duration::from_secs(24 * 60 * 60));
    assert_eq!((journal.committed(now()), journal.committed(now() + day)), (today, NanoUsd::ZERO));
    journal.shut().await;
    drop(journal);
    let journal = open(&folder).await;
    assert_eq!((journal.committed(now()), journal.committed(now() + day)), (today, NanoUsd::ZERO));
}

#[tokio::test]
async fn requests_of_an_identity_that_is_gone_are_abandoned_and_stay_closed() {
    let folder = TempDir::new().unwrap();
    let journal = open(&folder).await;
    drop(journal.begin(intent("kept")).await.unwrap());
    drop(journal.begin(Intent { device_id: "gone".to_owned(), ..intent("lost") }).await.unwrap());
    assert_eq!((journal.open_of("device"), journal.open_of("gone")), (1, 1));
    journal.abandon(Some("device")).await.unwrap();
    assert_eq!(journal.unsettled(), [intent("kept")]);
    journal.abandon(None).await.unwrap();
    assert_eq!(*journal.pending().borrow(), 0);
    journal.shut().await;
    drop(journal);
    assert_eq!(*open(&folder).await.pending().borrow(), 0);
}
