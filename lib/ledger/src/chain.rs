//! Verification of a list of receipts: every signature, every link, every sum, and the first that is bad.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::{KeyRing, NanoUsd, Receipt, SignedReceipt};

/// A stored receipt that cannot be read any more: what its store still knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The request it belonged to, from the store's own key.
    pub request_id: String,
    /// What is wrong with it.
    pub fault: String,
}

/// What [`verify_chain`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// How many there were, bad ones included.
    pub receipts: u64,
    /// Every receipt readable, in order, linked to the one before, its amounts adding up, none charged twice. A gap
    /// that open requests explain is no fault.
    pub chain_ok: bool,
    /// Receipts that are missing before others, and that requests still wait for.
    pub pending: u64,
    /// Every receipt readable and signed by a key of the ring.
    pub signatures_ok: bool,
    /// What the readable receipts leave to be invoiced together.
    #[serde(rename = "total_nanousd")]
    pub total: NanoUsd,
    /// The first bad receipt in the order given.
    pub first_bad: Option<BadReceipt>,
}

/// A receipt that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadReceipt {
    /// Its position in its device's chain; unknown if it cannot be read.
    pub seq: Option<u64>,
    /// The request it is for.
    pub request_id: String,
    /// What is wrong, as a sentence without a period.
    pub why: String,
}

impl Verification {
    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        self.chain_ok && self.signatures_ok
    }
}

#[derive(Debug, thiserror::Error)]
enum ChainFault {
    #[error("request was charged before, by receipt {seq} of device {device}")]
    ChargedTwice { seq: u64, device: String },
    #[error("its amounts do not add up")]
    Amounts,
    #[error("receipt {missing} of device {device} is missing before it")]
    Gap { missing: u64, device: String },
    #[error("out of order: receipt {last} of device {device} came before it")]
    OutOfOrder { last: u64, device: String },
    #[error("does not follow receipt {0}: the hash of the previous receipt differs")]
    PreviousHash(u64),
    #[error("the total is out of range")]
    Total,
}

/// Where a device's chain stands.
#[derive(Clone, Copy, Default)]
struct Head {
    seq: u64,
    hash: [u8; 32],
}

#[derive(Default)]
struct Walk {
    heads: HashMap<String, Head>,
    charged: HashMap<String, (u64, String)>,
    total: NanoUsd,
    /// Requests of each device whose receipt has not arrived, and that explain no gap yet.
    open: BTreeMap<String, u64>,
    pending: u64,
}

/// Checks receipts in the order they were stored. Each device has a chain of its own, from receipt 1; several
/// may be interleaved. Goes on after a bad receipt, so that the counts and the total cover the whole list.
///
/// A list that was cut at its end still verifies: only who knows where the chain should end (the journal's
/// anchor, the issuer) can see that.
pub fn verify_chain<I>(receipts: I, keys: &KeyRing) -> Verification
where
    I: IntoIterator<Item = Result<SignedReceipt, Damaged>>,
{
    verify_open_chain(receipts, BTreeMap::new(), keys)
}

/// Like [`verify_chain`], for who also knows how many requests of each device still wait for their receipt, in `open`.
/// Requests that run side by side may end in another order than they began in, and a later receipt may arrive before
/// an earlier one: a gap of no more receipts than requests are open is pending, and no fault. What follows such a gap
/// cannot be compared with what is before it until it is filled.
pub fn verify_open_chain<I>(receipts: I, open: BTreeMap<String, u64>, keys: &KeyRing) -> Verification
where
    I: IntoIterator<Item = Result<SignedReceipt, Damaged>>,
{
    let mut found = Verification {
        receipts: 0,
        chain_ok: true,
        pending: 0,
        signatures_ok: true,
        total: NanoUsd::ZERO,
        first_bad: None,
    };
    let mut walk = Walk { open, ..Walk::default() };
    for item in receipts {
        found.receipts += 1;
        match item {
            Err(Damaged { request_id, fault }) => {
                (found.chain_ok, found.signatures_ok) = (false, false);
                found.first_bad.get_or_insert(BadReceipt { seq: None, request_id, why: fault });
            }
            Ok(signed) => {
                let signature = keys.verify(&signed).map_err(|error| error.to_string());
                let link = walk.step(&signed.receipt).map_err(|fault| fault.to_string());
                found.signatures_ok &= signature.is_ok();
                found.chain_ok &= link.is_ok();
                if let Err(why) = signature.and(link) {
                    let Receipt { seq, request_id, .. } = signed.receipt;
                    found.first_bad.get_or_insert(BadReceipt { seq: Some(seq), request_id, why });
                }
            }
        }
    }
    found.total = walk.total;
    found.pending = walk.pending;
    found
}

impl Walk {
    /// Takes one receipt in, bad or not: what follows is judged by what is there.
    fn step(&mut self, receipt: &Receipt) -> Result<(), ChainFault> {
        let device = || receipt.device.clone();
        let head = self.heads.entry(device()).or_default();
        let last = std::mem::replace(head, Head { seq: receipt.seq.max(head.seq), hash: receipt.hash() });
        let summed = self.total.checked_add(receipt.net);
        self.total = summed.unwrap_or(self.total);

        match self.charged.entry(receipt.request_id.clone()) {
            Entry::Occupied(earlier) => {
                let (seq, device) = earlier.get().clone();
                return Err(ChainFault::ChargedTwice { seq, device });
            }
            Entry::Vacant(first) => first.insert((receipt.seq, device())),
        };
        summed.map_err(|_| ChainFault::Total)?;
        if !receipt.charge().adds_up() {
            return Err(ChainFault::Amounts);
        }
        let Some(next) = last.seq.checked_add(1).filter(|next| *next <= receipt.seq) else {
            return Err(ChainFault::OutOfOrder { last: last.seq, device: device() });
        };
        let missing = receipt.seq - next;
        if missing > 0 {
            if let Some(open) = self.open.get_mut(&receipt.device)
                && let Some(left) = open.checked_sub(missing)
            {
                *open = left;
                self.pending += missing;
                return Ok(());
            }
            return Err(ChainFault::Gap { missing: next, device: device() });
        }
        if receipt.prev_hash != last.hash {
            return Err(ChainFault::PreviousHash(last.seq));
        }
        Ok(())
    }
}
