//! Receipts: one encoding for each, and no other.

use std::sync::OnceLock;

use synesis_ledger::{KeyRing, Receipt, SignedReceipt, verify_chain};

use crate::vectors;

fn keys() -> &'static KeyRing {
    static KEYS: OnceLock<KeyRing> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut keys = KeyRing::new();
        keys.insert(vectors::receipt_key()).expect("a good key");
        keys
    })
}

/// The bytes of a receipt, with a signature or without.
pub(crate) fn receipts(data: &[u8]) {
    if let Ok(receipt) = Receipt::decode(data) {
        assert_eq!(receipt.encode(), data, "two encodings of one receipt");
    }
    if let Ok(signed) = SignedReceipt::from_bytes(data) {
        assert_eq!(signed.to_bytes(), data, "two encodings of one receipt");
        serde_json::to_string(&signed).expect("it can be shown");
        let twice = verify_chain([Ok(signed.clone()), Ok(signed)], keys());
        assert!(!twice.holds(), "one request is charged once");
    }
}

pub(crate) fn receipt_seeds() -> Vec<Vec<u8>> {
    vectors::receipts()
}
