//! The golden bytes of the tunnel and of receipts (`tests/vectors`), to begin with.

use serde_json::Value;

fn file(path: &str) -> Value {
    let path = format!("{}/../vectors/{path}/v1.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect("JSON")
}

fn each(file: &Value, list: &str, key: &str) -> Vec<(String, Vec<u8>)> {
    let vectors = file[list].as_array().expect(list).iter();
    let bytes = |vector: &Value| hex::decode(vector[key].as_str().expect(key)).expect("hex");
    vectors.map(|vector| (vector["message"].as_str().unwrap_or_default().to_owned(), bytes(vector))).collect()
}

/// Every frame, good or bad, with the name of its message.
pub(crate) fn frames() -> Vec<(String, Vec<u8>)> {
    let file = file("mesh");
    ["frames", "tolerated", "bad_frames"].iter().flat_map(|list| each(&file, list, "hex")).collect()
}

/// Every record of the TCP carrier, good or bad.
pub(crate) fn records() -> Vec<Vec<u8>> {
    let file = file("mesh");
    let all = ["records", "bad_records"].iter().flat_map(|list| each(&file, list, "hex"));
    all.map(|(_, bytes)| bytes).collect()
}

/// Every receipt, without and with its signature.
pub(crate) fn receipts() -> Vec<Vec<u8>> {
    let file = file("receipt");
    let all = ["encoded_hex", "signed_hex"].iter().flat_map(|key| each(&file, "vectors", key));
    all.map(|(_, bytes)| bytes).collect()
}

/// The key that signed them.
pub(crate) fn receipt_key() -> [u8; 32] {
    let file = file("receipt");
    let key = file["public_key_hex"].as_str().expect("a key");
    hex::decode(key).expect("hex").try_into().expect("32 bytes")
}
