//! Exact money: what an answer costs, what may still be spent, and the receipt that proves a charge.
//!
//! Everything here is pure: values in, values out; no clock, no file, no thread. Amounts are integer
//! nano-dollars, arithmetic is checked, and there is one rounding rule (see [`NanoUsd`]).
//!
//! The life of a charge: the worst case is [held](Account::hold), the answer is produced, its [`Charge`] is
//! computed and [settled](Account::settle) against the hold, and a [`Receipt`] is signed and chained to the
//! device's previous one. Anybody with the public key can [verify the chain](verify_chain) offline.

mod account;
mod chain;
mod charge;
mod codec;
mod json;
mod keys;
mod money;
mod price;
mod receipt;
mod tier;

pub use account::{Account, Refused, SettleError};
pub use chain::{BadReceipt, Damaged, Verification, verify_chain, verify_open_chain};
pub use charge::{Charge, charge, cost_within, counted};
pub use codec::DecodeError;
pub use keys::{KeyError, KeyRing, SigningKey, VerifyError, key_id};
pub use money::{NanoUsd, Overflow, ParseUsdError};
pub use price::{Price, PriceTable};
pub use receipt::{Receipt, SignedReceipt};
pub use tier::{Rates, Tier, UnknownTier};
