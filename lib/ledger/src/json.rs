//! A signed receipt as the JSON that people and scripts read: integers for money, hex for hashes, base64 for
//! the signature, RFC 3339 for the instant. The canonical bytes stay the thing that is signed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::ser::{Error, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::{NanoUsd, SignedReceipt, Tier};

#[derive(serde::Serialize)]
struct View<'a> {
    schema: &'static str,
    account: &'a str,
    device: &'a str,
    request_id: &'a str,
    model: &'a str,
    adapter_generation: u64,
    input_tokens: u64,
    output_tokens: u64,
    tier: Tier,
    cost_nanousd: NanoUsd,
    fee_nanousd: NanoUsd,
    credits_used_nanousd: NanoUsd,
    net_nanousd: NanoUsd,
    price_version: u64,
    redacted_hash: String,
    seq: u64,
    prev_hash: String,
    hash: String,
    issued_at: String,
    key_id: &'a str,
    signature: String,
}

impl Serialize for SignedReceipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let receipt = &self.receipt;
        View {
            schema: "synesis.receipt/1",
            account: &receipt.account,
            device: &receipt.device,
            request_id: &receipt.request_id,
            model: &receipt.model,
            adapter_generation: receipt.adapter_generation,
            input_tokens: receipt.input_tokens,
            output_tokens: receipt.output_tokens,
            tier: receipt.tier,
            cost_nanousd: receipt.cost,
            fee_nanousd: receipt.fee,
            credits_used_nanousd: receipt.credits_used,
            net_nanousd: receipt.net,
            price_version: receipt.price_version,
            redacted_hash: hex::encode(receipt.redacted_hash),
            seq: receipt.seq,
            prev_hash: hex::encode(receipt.prev_hash),
            hash: hex::encode(receipt.hash()),
            issued_at: rfc3339(receipt.issued_at_ms).map_err(S::Error::custom)?,
            key_id: &self.key_id,
            signature: BASE64.encode(self.signature),
        }
        .serialize(serializer)
    }
}

fn rfc3339(unix_ms: i64) -> Result<String, time::error::Format> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000)
        .map_err(|_| time::error::Format::InvalidComponent("year"))?
        .format(&Rfc3339)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(1_767_225_600_123).unwrap(), "2026-01-01T00:00:00.123Z");
        assert_eq!(rfc3339(0).unwrap(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn an_instant_that_cannot_be_written_is_an_error() {
        assert!(rfc3339(i64::MAX).is_err());
    }
}
