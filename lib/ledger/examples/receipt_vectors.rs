//! Prints the test vectors of the receipt format, for `tests/vectors/receipt/v1.json`. Every implementation
//! of the format reads that file; it changes only with the version of the format.

use serde_json::{Value, json};
use synesis_ledger::{NanoUsd, Rates, Receipt, SigningKey, Tier, charge};

/// RFC 8032, section 7.1, test 1: a key that everybody knows.
const SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44,
    0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

struct Case {
    name: &'static str,
    tier: Tier,
    cost: i64,
    credits: i64,
    model: &'static str,
    tokens: (u64, u64),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = SigningKey::generate(SEED);
    let cases = [
        Case {
            name: "managed, the first of its chain",
            tier: Tier::Managed,
            cost: 450_000,
            credits: 0,
            model: "gpt-small",
            tokens: (1_000, 500),
        },
        Case {
            name: "managed, partly from credits",
            tier: Tier::Managed,
            cost: 160_000_000,
            credits: 4_800_001,
            model: "gpt-small",
            tokens: (12, 34),
        },
        Case {
            name: "own key, licence fee only",
            tier: Tier::Byok,
            cost: 1_000_001,
            credits: 0,
            model: "claude/größe",
            tokens: (0, 1),
        },
        Case {
            name: "free, numbers beyond 2^53",
            tier: Tier::Free,
            cost: 9_007_199_254_740_993,
            credits: 0,
            model: "",
            tokens: (u64::MAX, 9_007_199_254_740_993),
        },
    ];
    let mut prev_hash = [0; 32];
    let mut vectors = Vec::new();
    for (case, seq) in cases.iter().zip(1_u64..) {
        let (cost, credits) = (NanoUsd::from_i64(case.cost), NanoUsd::from_i64(case.credits));
        let charge = charge(case.tier, &Rates::default(), cost, credits)?;
        let receipt = Receipt {
            account: "acme".to_owned(),
            device: "device-6f1c1c0e-7d0e-4a52-9d57-4a3f0e1d2c3b".to_owned(),
            request_id: format!("01JZ00000000000000000000{seq:02}"),
            model: case.model.to_owned(),
            adapter_generation: seq - 1,
            input_tokens: case.tokens.0,
            output_tokens: case.tokens.1,
            tier: charge.tier,
            cost: charge.cost,
            fee: charge.fee,
            credits_used: charge.credits_used,
            net: charge.net,
            price_version: 7,
            redacted_hash: [0x5a; 32],
            seq,
            prev_hash,
            issued_at_ms: 1_767_225_600_123 + i64::try_from(seq)?,
        };
        prev_hash = receipt.hash();
        vectors.push(vector(case.name, receipt, &key)?);
    }
    let file = json!({
        "format": "synesis.receipt/1",
        "about": "integers are decimal strings: some pass 2^53; `encoded` is what is hashed and signed, `signed` what is sent and stored",
        "private_key_seed_hex": hex::encode(SEED),
        "public_key_hex": hex::encode(key.public()),
        "key_id": key.key_id(),
        "vectors": vectors,
    });
    println!("{}", serde_json::to_string_pretty(&file)?);
    Ok(())
}

fn vector(name: &str, receipt: Receipt, key: &SigningKey) -> Result<Value, Box<dyn std::error::Error>> {
    let fields = json!({
        "account": receipt.account,
        "device": receipt.device,
        "request_id": receipt.request_id,
        "model": receipt.model,
        "adapter_generation": receipt.adapter_generation.to_string(),
        "input_tokens": receipt.input_tokens.to_string(),
        "output_tokens": receipt.output_tokens.to_string(),
        "tier": receipt.tier,
        "cost_nanousd": receipt.cost.as_i64().to_string(),
        "fee_nanousd": receipt.fee.as_i64().to_string(),
        "credits_used_nanousd": receipt.credits_used.as_i64().to_string(),
        "net_nanousd": receipt.net.as_i64().to_string(),
        "price_version": receipt.price_version.to_string(),
        "redacted_hash_hex": hex::encode(receipt.redacted_hash),
        "seq": receipt.seq.to_string(),
        "prev_hash_hex": hex::encode(receipt.prev_hash),
        "issued_at_ms": receipt.issued_at_ms.to_string(),
    });
    let (encoded, hash) = (hex::encode(receipt.encode()), hex::encode(receipt.hash()));
    let signed = key.sign(receipt);
    let shown = serde_json::to_value(&signed)?;
    Ok(json!({
        "name": name,
        "fields": fields,
        "encoded_hex": encoded,
        "hash_hex": hash,
        "signature_base64": shown["signature"],
        "signed_hex": hex::encode(signed.to_bytes()),
        "issued_at": shown["issued_at"],
    }))
}
