//! The golden bytes of the receipt format, from the file that every implementation reads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail loudly too"
)]

use serde_json::Value;
use synesis_ledger::{KeyRing, NanoUsd, Receipt, SignedReceipt, SigningKey, verify_chain};

fn file() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/receipt/v1.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect(path)).expect("JSON")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is not a text"))
}

fn bytes<const N: usize>(value: &Value, key: &str) -> [u8; N] {
    hex::decode(text(value, key)).unwrap().try_into().unwrap()
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(value: &Value, key: &str) -> T {
    text(value, key).parse().unwrap()
}

fn amount(value: &Value, key: &str) -> NanoUsd {
    NanoUsd::from_i64(number(value, key))
}

fn receipt(fields: &Value) -> Receipt {
    Receipt {
        account: text(fields, "account").to_owned(),
        device: text(fields, "device").to_owned(),
        request_id: text(fields, "request_id").to_owned(),
        model: text(fields, "model").to_owned(),
        adapter_generation: number(fields, "adapter_generation"),
        input_tokens: number(fields, "input_tokens"),
        output_tokens: number(fields, "output_tokens"),
        tier: text(fields, "tier").parse().unwrap(),
        cost: amount(fields, "cost_nanousd"),
        fee: amount(fields, "fee_nanousd"),
        credits_used: amount(fields, "credits_used_nanousd"),
        net: amount(fields, "net_nanousd"),
        price_version: number(fields, "price_version"),
        redacted_hash: bytes(fields, "redacted_hash_hex"),
        seq: number(fields, "seq"),
        prev_hash: bytes(fields, "prev_hash_hex"),
        issued_at_ms: number(fields, "issued_at_ms"),
    }
}

#[test]
fn the_golden_bytes_have_not_changed() {
    let file = file();
    let key = SigningKey::generate(bytes(&file, "private_key_seed_hex"));
    assert_eq!(key.public(), bytes(&file, "public_key_hex"));
    assert_eq!(key.key_id(), text(&file, "key_id"));
    let vectors = file["vectors"].as_array().unwrap();
    assert!(vectors.len() >= 4);
    for vector in vectors {
        let name = text(vector, "name");
        let receipt = receipt(&vector["fields"]);
        assert_eq!(hex::encode(receipt.encode()), text(vector, "encoded_hex"), "{name}");
        assert_eq!(hex::encode(receipt.hash()), text(vector, "hash_hex"), "{name}");
        // Ed25519 is deterministic, so the signature is golden too.
        let signed = key.sign(receipt);
        assert_eq!(hex::encode(signed.to_bytes()), text(vector, "signed_hex"), "{name}");
        let shown = serde_json::to_value(&signed).unwrap();
        assert_eq!(shown["signature"], vector["signature_base64"], "{name}");
        assert_eq!(shown["issued_at"], vector["issued_at"], "{name}");
        assert_eq!(shown["schema"], "synesis.receipt/1", "{name}");
        assert_eq!(shown["cost_nanousd"].to_string(), text(&vector["fields"], "cost_nanousd"), "{name}");
    }
}

#[test]
fn the_vectors_are_one_chain_that_holds() {
    let file = file();
    let mut keys = KeyRing::new();
    keys.insert(bytes(&file, "public_key_hex")).unwrap();
    let stored = file["vectors"].as_array().unwrap().iter().map(|vector| {
        Ok(SignedReceipt::from_bytes(&hex::decode(text(vector, "signed_hex")).unwrap()).unwrap())
    });
    let found = verify_chain(stored, &keys);
    assert!(found.holds(), "{found:?}");
}
