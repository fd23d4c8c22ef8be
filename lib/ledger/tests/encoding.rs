//! The canonical bytes: strict, stable, and unforgiving to a single changed byte.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail loudly too"
)]

mod fixture;

use fixture::{chain, ring};
use proptest::prelude::*;
use synesis_ledger::{DecodeError, NanoUsd, Receipt, SignedReceipt, Tier};

#[test]
fn a_signed_receipt_survives_its_bytes() {
    for signed in chain(3) {
        assert_eq!(SignedReceipt::from_bytes(&signed.to_bytes()), Ok(signed));
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    let bytes = chain(1).remove(0).to_bytes();
    for position in 0..bytes.len() {
        for flip in 1..=u8::MAX {
            let mut changed = bytes.clone();
            changed[position] ^= flip;
            if let Ok(signed) = SignedReceipt::from_bytes(&changed) {
                // Full verification is slow; the signature covers the receipt, so eight flips a byte will do.
                if flip.is_power_of_two() {
                    assert!(ring().verify(&signed).is_err(), "byte {position} ^ {flip:#x}");
                }
                assert_eq!(signed.to_bytes(), changed, "two encodings of one value");
            }
        }
    }
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    let mut bytes = chain(1).remove(0).to_bytes();
    for length in 0..bytes.len() {
        assert!(SignedReceipt::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
    }
    bytes.push(0);
    assert_eq!(SignedReceipt::from_bytes(&bytes), Err(DecodeError::TrailingBytes(1)));
}

#[test]
fn impossible_values_are_refused_by_name() {
    let good = chain(1).remove(0).receipt;
    let refused = |change: fn(&mut Receipt)| {
        let mut receipt = good.clone();
        change(&mut receipt);
        Receipt::decode(&receipt.encode()).unwrap_err()
    };
    assert_eq!(refused(|r| r.cost = NanoUsd::from_i64(-1)), DecodeError::Invalid("cost"));
    assert_eq!(refused(|r| r.net = NanoUsd::from_i64(i64::MIN)), DecodeError::Invalid("net"));
    assert_eq!(refused(|r| r.seq = 0), DecodeError::Invalid("seq"));
    assert_eq!(refused(|r| r.issued_at_ms = -1), DecodeError::Invalid("issued_at"));
    assert_eq!(refused(|r| r.issued_at_ms = i64::MAX), DecodeError::Invalid("issued_at"));
}

#[test]
fn another_format_or_version_is_not_a_receipt() {
    let receipt = chain(1).remove(0).receipt;
    let mut bytes = receipt.encode();
    assert_eq!(SignedReceipt::from_bytes(&bytes), Err(DecodeError::Domain("synesis.signed-receipt/1")));
    bytes[16] = b'2';
    assert_eq!(Receipt::decode(&bytes), Err(DecodeError::Domain("synesis.receipt/1")));
}

fn receipts() -> impl Strategy<Value = Receipt> {
    let texts = (".*", ".*", ".*", ".*");
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), 1..u64::MAX);
    let amounts = prop::array::uniform4(0..=i64::MAX);
    let tier = prop_oneof![Just(Tier::Free), Just(Tier::Managed), Just(Tier::Byok)];
    let hashes = prop::array::uniform2(any::<[u8; 32]>());
    (texts, numbers, amounts, tier, hashes, 0..253_402_300_799_999_i64).prop_map(
        |(texts, numbers, amounts, tier, hashes, issued_at_ms)| Receipt {
            account: texts.0,
            device: texts.1,
            request_id: texts.2,
            model: texts.3,
            adapter_generation: numbers.0,
            input_tokens: numbers.1,
            output_tokens: numbers.2,
            tier,
            cost: NanoUsd::from_i64(amounts[0]),
            fee: NanoUsd::from_i64(amounts[1]),
            credits_used: NanoUsd::from_i64(amounts[2]),
            net: NanoUsd::from_i64(amounts[3]),
            price_version: numbers.3,
            redacted_hash: hashes[0],
            seq: numbers.4,
            prev_hash: hashes[1],
            issued_at_ms,
        },
    )
}

proptest! {
    #[test]
    fn any_receipt_survives_its_bytes(receipt in receipts()) {
        prop_assert_eq!(Receipt::decode(&receipt.encode()), Ok(receipt));
    }

    #[test]
    fn any_bytes_decode_or_err_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = SignedReceipt::from_bytes(&bytes);
        let _ = Receipt::decode(&bytes);
    }

    #[test]
    fn bytes_behind_a_good_start_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), keep in 0..500_usize) {
        let mut start = chain(1).remove(0).to_bytes();
        start.truncate(keep);
        start.extend(bytes);
        let _ = SignedReceipt::from_bytes(&start);
    }
}
