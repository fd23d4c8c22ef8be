//! The ledger's entries: appended to the chained journal in the transaction that changes the balances, never
//! changed. From them alone every balance can be computed again.

use rusqlite::Transaction;
use serde::Serialize;
use synesis_ledger::{Charge, NanoUsd};
use synesis_store::chain;

use crate::control_plane::{ControlError, RequestKey};

/// The journal's name for ledger entries.
pub(super) const KIND: &str = "ledger";

/// What happened to an account. Amounts are nano-dollars.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(tag = "entry", rename_all = "snake_case")]
pub(in crate::control_plane) enum Entry {
    Hold {
        account: String,
        request: String,
        model: String,
        amount: NanoUsd,
        price_version: u64,
    },
    Settle {
        account: String,
        request: String,
        /// The whole hold, which ends here.
        held: NanoUsd,
        cost: NanoUsd,
        fee: NanoUsd,
        credits_used: NanoUsd,
        net: NanoUsd,
        input_tokens: u64,
        output_tokens: u64,
        /// Whether the provider counted the tokens, or the gateway did.
        provider_counted: bool,
        /// The receipt's hash, in hex.
        receipt: String,
    },
    Release {
        account: String,
        request: String,
        amount: NanoUsd,
    },
}

impl Entry {
    /// The settle entry of `charge`.
    pub(super) fn settle(
        account: &str,
        request: &RequestKey,
        held: NanoUsd,
        charge: &Charge,
        tokens: (u64, u64, bool),
        receipt: [u8; 32],
    ) -> Self {
        let (input_tokens, output_tokens, provider_counted) = tokens;
        Self::Settle {
            account: account.to_owned(),
            request: request.to_string(),
            held,
            cost: charge.cost,
            fee: charge.fee,
            credits_used: charge.credits_used,
            net: charge.net,
            input_tokens,
            output_tokens,
            provider_counted,
            receipt: hex::encode(receipt),
        }
    }

    fn account(&self) -> &str {
        match self {
            Self::Hold { account, .. } | Self::Settle { account, .. } | Self::Release { account, .. } => {
                account
            }
        }
    }

    /// Appends the entry to the chain.
    pub(super) fn append(&self, tx: &Transaction<'_>) -> Result<(), ControlError> {
        let body = serde_json::to_vec(self).map_err(|error| ControlError::Corrupt(error.to_string()))?;
        chain::append(tx, KIND, self.account(), &body)?;
        Ok(())
    }
}
