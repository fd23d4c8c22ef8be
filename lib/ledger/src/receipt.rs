//! The receipt of one charge, its canonical bytes and its hash, and the same with a signature.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::codec::{DecodeError, Decoder, Encoder};
use crate::{Charge, NanoUsd, Tier};

const RECEIPT_V1: &str = "synesis.receipt/1";
const SIGNED_V1: &str = "synesis.signed-receipt/1";
/// The end of year 9999, the last instant that RFC 3339 can write.
const LAST_INSTANT_MS: i64 = 253_402_300_799_999;

/// What was charged for one request, and for what. A device's receipts form a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who pays.
    pub account: String,
    /// Which device asked.
    pub device: String,
    /// Which request; one charge each, whatever is retried.
    pub request_id: String,
    /// The model that answered.
    pub model: String,
    /// The device's adapter generation when it asked.
    pub adapter_generation: u64,
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// The tier that the charge was computed for.
    pub tier: Tier,
    /// List cost of the tokens.
    pub cost: NanoUsd,
    /// Our fee.
    pub fee: NanoUsd,
    /// Paid from credits.
    pub credits_used: NanoUsd,
    /// Left to be invoiced.
    pub net: NanoUsd,
    /// The version of the price table.
    pub price_version: u64,
    /// SHA-256 of the redacted prompt as it was sent.
    pub redacted_hash: [u8; 32],
    /// Position in the device's chain, from 1.
    pub seq: u64,
    /// [`hash`](Self::hash) of the device's receipt before; zeros for the first.
    pub prev_hash: [u8; 32],
    /// When it was issued, in milliseconds of the Unix epoch, by the issuer's clock.
    pub issued_at_ms: i64,
}

impl Receipt {
    /// The canonical bytes: what is hashed and signed.
    pub fn encode(&self) -> Vec<u8> {
        Encoder::new(RECEIPT_V1)
            .blob(self.account.as_bytes())
            .blob(self.device.as_bytes())
            .blob(self.request_id.as_bytes())
            .blob(self.model.as_bytes())
            .u64(self.adapter_generation)
            .u64(self.input_tokens)
            .u64(self.output_tokens)
            .blob(self.tier.as_str().as_bytes())
            .i64(self.cost.as_i64())
            .i64(self.fee.as_i64())
            .i64(self.credits_used.as_i64())
            .i64(self.net.as_i64())
            .u64(self.price_version)
            .fixed(&self.redacted_hash)
            .u64(self.seq)
            .fixed(&self.prev_hash)
            .i64(self.issued_at_ms)
            .finish()
    }

    /// Reads the canonical bytes, and nothing else: a negative amount, a position of zero, an instant that
    /// cannot be written, or a byte too many is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(RECEIPT_V1, bytes)?;
        let receipt = Self {
            account: decoder.text("account")?,
            device: decoder.text("device")?,
            request_id: decoder.text("request_id")?,
            model: decoder.text("model")?,
            adapter_generation: decoder.u64("adapter_generation")?,
            input_tokens: decoder.u64("input_tokens")?,
            output_tokens: decoder.u64("output_tokens")?,
            tier: decoder.text("tier")?.parse().map_err(|_| DecodeError::Invalid("tier"))?,
            cost: amount(&mut decoder, "cost")?,
            fee: amount(&mut decoder, "fee")?,
            credits_used: amount(&mut decoder, "credits_used")?,
            net: amount(&mut decoder, "net")?,
            price_version: decoder.u64("price_version")?,
            redacted_hash: decoder.fixed("redacted_hash")?,
            seq: decoder.u64("seq")?,
            prev_hash: decoder.fixed("prev_hash")?,
            issued_at_ms: decoder.i64("issued_at")?,
        };
        decoder.finish()?;
        if receipt.seq == 0 {
            return Err(DecodeError::Invalid("seq"));
        }
        if !(0..=LAST_INSTANT_MS).contains(&receipt.issued_at_ms) {
            return Err(DecodeError::Invalid("issued_at"));
        }
        Ok(receipt)
    }

    /// SHA-256 of the canonical bytes: what the next receipt of the device points back to.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.encode()).into()
    }

    /// The charge that this receipt is for.
    pub fn charge(&self) -> Charge {
        Charge {
            tier: self.tier,
            cost: self.cost,
            fee: self.fee,
            credits_used: self.credits_used,
            net: self.net,
        }
    }
}

fn amount(decoder: &mut Decoder<'_>, field: &'static str) -> Result<NanoUsd, DecodeError> {
    let amount = NanoUsd::from_i64(decoder.i64(field)?);
    if amount.is_negative() { Err(DecodeError::Invalid(field)) } else { Ok(amount) }
}

/// A receipt with the signature over its canonical bytes. Holding one says nothing yet: check it with
/// [`KeyRing::verify`](crate::KeyRing::verify).
#[derive(Clone, PartialEq, Eq)]
pub struct SignedReceipt {
    /// What was signed.
    pub receipt: Receipt,
    /// Which key signed it, see [`key_id`](crate::key_id).
    pub key_id: String,
    /// Ed25519 over [`Receipt::encode`].
    pub signature: [u8; 64],
}

impl SignedReceipt {
    /// The canonical bytes, as sent and stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        Encoder::new(SIGNED_V1)
            .blob(&self.receipt.encode())
            .blob(self.key_id.as_bytes())
            .fixed(&self.signature)
            .finish()
    }

    /// Reads the canonical bytes, and nothing else. Does not check the signature.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(SIGNED_V1, bytes)?;
        let receipt = Receipt::decode(decoder.blob("receipt")?)?;
        let (key_id, signature) = (decoder.text("key_id")?, decoder.fixed("signature")?);
        decoder.finish()?;
        Ok(Self { receipt, key_id, signature })
    }
}

impl fmt::Debug for SignedReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedReceipt")
            .field("receipt", &self.receipt)
            .field("key_id", &self.key_id)
            .field("signature", &hex::encode(self.signature))
            .finish()
    }
}
