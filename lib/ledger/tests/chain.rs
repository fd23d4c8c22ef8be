//! A chain of receipts holds, and whatever is done to one of them is found and named.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail loudly too"
)]

mod fixture;

use fixture::{chain, key, receipt, ring};
use synesis_ledger::{
    BadReceipt, Damaged, NanoUsd, SignedReceipt, SigningKey, Verification, verify_chain, verify_open_chain,
};

fn verify(receipts: Vec<SignedReceipt>) -> Verification {
    verify_chain(receipts.into_iter().map(Ok), &ring())
}

fn first_bad(found: &Verification) -> (Option<u64>, &str, &str) {
    let BadReceipt { seq, request_id, why } = found.first_bad.as_ref().expect("a bad receipt");
    (*seq, request_id, why)
}

#[test]
fn an_untouched_chain_holds() {
    let found = verify(chain(5));
    assert!(found.holds());
    assert_eq!((found.receipts, found.total, found.first_bad), (5, NanoUsd::from_i64(5 * 1_030), None));
}

#[test]
fn no_receipts_hold_trivially() {
    assert!(verify(Vec::new()).holds());
}

#[test]
fn a_changed_amount_breaks_the_signature_and_names_the_receipt() {
    let mut receipts = chain(4);
    receipts[1].receipt.net = NanoUsd::ZERO;
    let found = verify(receipts);
    assert!(!found.signatures_ok && !found.chain_ok);
    assert_eq!(first_bad(&found), (Some(2), "request-2", "the signature does not match"));
}

#[test]
fn a_missing_receipt_is_a_gap_at_the_one_after_it() {
    let mut receipts = chain(4);
    receipts.remove(1);
    let found = verify(receipts);
    assert!(found.signatures_ok && !found.chain_ok);
    assert_eq!(
        first_bad(&found),
        (Some(3), "request-3", "receipt 2 of device device-a is missing before it")
    );
}

#[test]
fn a_chain_without_its_first_receipt_is_a_gap() {
    let found = verify(chain(3).split_off(1));
    assert_eq!(
        first_bad(&found),
        (Some(2), "request-2", "receipt 1 of device device-a is missing before it")
    );
}

#[test]
fn a_properly_signed_receipt_with_the_wrong_previous_hash_is_named() {
    let mut receipts = chain(3);
    let mut forked = receipts[2].receipt.clone();
    forked.prev_hash[0] ^= 1;
    receipts[2] = key().sign(forked);
    let found = verify(receipts);
    assert!(found.signatures_ok && !found.chain_ok);
    let why = "does not follow receipt 2: the hash of the previous receipt differs";
    assert_eq!(first_bad(&found), (Some(3), "request-3", why));
}

#[test]
fn swapped_receipts_are_out_of_order() {
    let mut receipts = chain(3);
    receipts.swap(1, 2);
    assert_eq!(first_bad(&verify(receipts.clone())).0, Some(3), "the gap shows first");
    receipts.swap(0, 1);
    receipts.swap(1, 2);
    assert!(!verify(receipts).chain_ok);
}

#[test]
fn a_position_used_twice_is_out_of_order() {
    let mut receipts = chain(2);
    let mut twin = receipts[1].receipt.clone();
    twin.request_id = "another".to_owned();
    receipts.push(key().sign(twin));
    let found = verify(receipts);
    assert_eq!(
        first_bad(&found),
        (Some(2), "another", "out of order: receipt 2 of device device-a came before it")
    );
}

#[test]
fn one_request_charged_twice_is_named_with_its_first_charge() {
    let mut receipts = chain(2);
    let last = &receipts[1].receipt;
    let again = fixture::Next { seq: 3, prev_hash: last.hash(), request_id: "request-1" };
    receipts.push(key().sign(receipt("device-a", again)));
    let found = verify(receipts);
    assert!(found.signatures_ok && !found.chain_ok);
    let why = "request was charged before, by receipt 1 of device device-a";
    assert_eq!(first_bad(&found), (Some(3), "request-1", why));
}

#[test]
fn a_receipt_of_a_stranger_is_named_with_its_key() {
    let stranger = SigningKey::generate([9; 32]);
    let mut receipts = chain(2);
    receipts[1] = stranger.sign(receipts[1].receipt.clone());
    let found = verify(receipts);
    assert!(found.chain_ok && !found.signatures_ok);
    let why = format!("signed by the unknown key {}", stranger.key_id());
    assert_eq!(first_bad(&found), (Some(2), "request-2", why.as_str()));
}

#[test]
fn a_signature_moved_to_another_key_name_does_not_hold() {
    let other = SigningKey::generate([9; 32]);
    let mut keys = ring();
    keys.insert(other.public()).unwrap();
    let mut receipts = chain(1);
    receipts[0].key_id = other.key_id().to_owned();
    let found = verify_chain(receipts.into_iter().map(Ok), &keys);
    assert_eq!(first_bad(&found).2, "the signature does not match");
}

#[test]
fn a_signed_receipt_whose_amounts_do_not_add_up_is_named() {
    let mut receipts = chain(1);
    let mut wrong = receipts[0].receipt.clone();
    wrong.net = NanoUsd::from_i64(1);
    receipts[0] = key().sign(wrong);
    let found = verify(receipts);
    assert!(found.signatures_ok && !found.chain_ok);
    assert_eq!(first_bad(&found).2, "its amounts do not add up");
}

#[test]
fn a_damaged_row_is_named_by_its_request_and_counts() {
    let damaged =
        Damaged { request_id: "request-2".to_owned(), fault: "row 2 does not match its hash".to_owned() };
    let receipts = chain(3).into_iter().enumerate();
    let items = receipts.map(|(index, signed)| if index == 1 { Err(damaged.clone()) } else { Ok(signed) });
    let found = verify_chain(items, &ring());
    assert_eq!((found.receipts, found.chain_ok, found.signatures_ok), (3, false, false));
    assert_eq!(first_bad(&found), (None, "request-2", "row 2 does not match its hash"));
}

#[test]
fn a_gap_that_open_requests_explain_is_pending_and_a_larger_one_is_a_fault() {
    let without = |gone: &[usize]| {
        let kept = chain(5).into_iter().enumerate().filter(|(index, _)| !gone.contains(index));
        kept.map(|(_, signed)| Ok(signed)).collect::<Vec<_>>()
    };
    let open = |device: &str, requests| [(device.to_owned(), requests)].into();
    let verify =
        |gone: &[usize], device, requests| verify_open_chain(without(gone), open(device, requests), &ring());
    for (gone, requests) in [(&[1][..], 1), (&[0], 1), (&[1, 2], 2), (&[0, 3], 2), (&[1], 7)] {
        let found = verify(gone, "device-a", requests);
        assert!(found.holds() && found.first_bad.is_none(), "{gone:?}: {found:?}");
        assert_eq!(found.pending, gone.len() as u64);
    }
    for (gone, device, requests) in
        [(&[1, 2][..], "device-a", 1), (&[1, 3], "device-a", 1), (&[1], "device-b", 9)]
    {
        let found = verify(gone, device, requests);
        assert!(!found.chain_ok && first_bad(&found).2.contains("missing"), "{gone:?}: {found:?}");
    }
}

#[test]
fn each_device_has_a_chain_of_its_own() {
    let zeros = [0; 32];
    let next = |request_id| fixture::Next { seq: 1, prev_hash: zeros, request_id };
    let mut receipts = chain(2);
    receipts.insert(1, key().sign(receipt("device-b", next("from-b"))));
    assert!(verify(receipts).holds());
}

#[test]
fn a_total_out_of_range_is_named() {
    let mut receipts = Vec::new();
    let mut prev_hash = [0; 32];
    for (seq, request_id) in [(1, "one"), (2, "two")] {
        let mut huge = receipt("device-a", fixture::Next { seq, prev_hash, request_id });
        huge.cost = NanoUsd::from_i64(i64::MAX - 30);
        huge.net = NanoUsd::MAX;
        prev_hash = huge.hash();
        receipts.push(key().sign(huge));
    }
    let found = verify(receipts);
    assert_eq!(first_bad(&found), (Some(2), "two", "the total is out of range"));
    assert_eq!(found.total, NanoUsd::MAX);
}

#[test]
fn the_result_serializes_with_the_contract_keys() {
    let json = serde_json::to_value(verify(chain(1))).unwrap();
    let expected = serde_json::json!({
        "receipts": 1, "chain_ok": true, "pending": 0, "signatures_ok": true, "total_nanousd": 1_030, "first_bad": null
    });
    assert_eq!(json, expected);
}
