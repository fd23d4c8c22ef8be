//! What the journal's rows add up to, in memory: open requests, the chain of receipts, what each day cost.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use synesis_ledger::{NanoUsd, Receipt};

use super::Intent;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// A sum that overflows is certainly over any limit.
const MOST: NanoUsd = NanoUsd::from_i64(i64::MAX);

/// A receipt that does not fit between its neighbours: the far end's chain has two versions, which must not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// Another receipt has its place.
    #[error("another receipt with the sequence number {0} is stored")]
    Fork(u64),
    /// Its request has another receipt.
    #[error("the request was charged before, by receipt {0}")]
    ChargedTwice(u64),
    /// It does not point back to the stored receipt before it.
    #[error("it does not follow the stored receipt {0}")]
    Before(u64),
    /// The stored receipt after it does not point back to it.
    #[error("the stored receipt {0} does not follow it")]
    After(u64),
}

#[derive(Debug)]
struct Link {
    hash: [u8; 32],
    prev_hash: [u8; 32],
}

/// A request whose receipt has not arrived.
#[derive(Debug)]
struct Open {
    intent: Intent,
    /// Somebody is working on it.
    in_flight: bool,
    /// The most it will be charged, as the gateway promised.
    promised: Option<NanoUsd>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    open: BTreeMap<String, Open>,
    chain: BTreeMap<(String, u64), Link>,
    seq_of: BTreeMap<String, u64>,
    spent: BTreeMap<u64, NanoUsd>,
}

impl Open {
    /// What it counts against the limit of the day of `now`.
    fn committed(&self, now: SystemTime) -> NanoUsd {
        let age = i64::try_from(ms(since_epoch(now))).unwrap_or(i64::MAX).saturating_sub(self.intent.at_ms);
        // A request that is a day old is charged to another day, even if its receipt never comes.
        if age >= DAY_MS {
            return NanoUsd::ZERO;
        }
        match (self.promised, self.in_flight) {
            (Some(promised), _) => promised,
            // It is negotiating: nobody else is promised anything before it knows.
            (None, true) => NanoUsd::ZERO,
            (None, false) => NanoUsd::from_i64(self.intent.most_nanousd.unwrap_or(0)),
        }
    }
}

impl Index {
    pub(super) fn open(&mut self, intent: Intent) {
        self.open.insert(intent.request_id.clone(), Open { intent, in_flight: false, promised: None });
    }

    /// Open, and somebody is working on it.
    pub(super) fn begin(&mut self, intent: Intent) {
        self.open.insert(intent.request_id.clone(), Open { intent, in_flight: true, promised: None });
    }

    /// It will be charged no more than this.
    pub(super) fn promise(&mut self, request_id: &str, most: NanoUsd) {
        if let Some(open) = self.open.get_mut(request_id) {
            open.promised = Some(most);
        }
    }

    /// Nobody is working on it any more; true when it is still open.
    pub(super) fn end(&mut self, request_id: &str) -> bool {
        self.open.get_mut(request_id).map(|open| open.in_flight = false).is_some()
    }

    pub(super) fn close(&mut self, request_id: &str) {
        self.open.remove(request_id);
    }

    pub(super) fn pending_count(&self) -> u32 {
        u32::try_from(self.open.len()).unwrap_or(u32::MAX)
    }

    /// Every open request and the identity it was sent under, the running ones included.
    pub(super) fn open_requests(&self) -> impl Iterator<Item = (&str, &str)> {
        self.open.iter().map(|(request_id, open)| (request_id.as_str(), open.intent.device_id.as_str()))
    }

    /// ULIDs sort by time, so the oldest comes first.
    pub(super) fn unsettled(&self) -> Vec<Intent> {
        self.open.values().filter(|open| !open.in_flight).map(|open| open.intent.clone()).collect()
    }

    /// Whether the receipt is already stored.
    pub(super) fn check(&self, receipt: &Receipt) -> Result<bool, ChainFault> {
        let at = |seq: u64| self.chain.get(&(receipt.device.clone(), seq));
        let hash = receipt.hash();
        if let Some(stored) = at(receipt.seq) {
            return if stored.hash == hash { Ok(true) } else { Err(ChainFault::Fork(receipt.seq)) };
        }
        if let Some(seq) = self.seq_of.get(&receipt.request_id) {
            return Err(ChainFault::ChargedTwice(*seq));
        }
        // Concurrent requests may finish out of order, so a neighbour may still be missing.
        match receipt.seq.checked_sub(1) {
            Some(0) | None if receipt.prev_hash != [0; 32] => return Err(ChainFault::Before(0)),
            Some(before) if at(before).is_some_and(|link| link.hash != receipt.prev_hash) => {
                return Err(ChainFault::Before(before));
            }
            _ => {}
        }
        let after = receipt.seq.saturating_add(1);
        if at(after).is_some_and(|link| link.prev_hash != hash) {
            return Err(ChainFault::After(after));
        }
        Ok(false)
    }

    /// Takes a receipt in: its request, begun at `begun_at_ms` by this device's clock, is charged and no longer open.
    /// It is charged to the day it was begun on: what was promised and what was charged go by the same clock. Only for a
    /// request that nobody remembers does the gateway's clock count.
    pub(super) fn settle(&mut self, receipt: &Receipt, begun_at_ms: Option<i64>) {
        self.close(&receipt.request_id);
        let link = Link { hash: receipt.hash(), prev_hash: receipt.prev_hash };
        self.seq_of.insert(receipt.request_id.clone(), receipt.seq);
        self.chain.insert((receipt.device.clone(), receipt.seq), link);
        let at_ms = begun_at_ms.unwrap_or(receipt.issued_at_ms);
        let day = u64::try_from(at_ms).unwrap_or(0) / ms(DAY);
        let spent = self.spent.entry(day).or_default();
        *spent = spent.checked_add(receipt.net).unwrap_or(MOST);
    }

    /// What counts against the limit of the UTC day of `now`: what its requests were charged, and what open ones may
    /// still cost.
    pub(super) fn committed(&self, now: SystemTime) -> NanoUsd {
        let spent = self.spent.get(&(ms(since_epoch(now)) / ms(DAY))).copied().unwrap_or_default();
        let mut open = self.open.values().map(|open| open.committed(now));
        open.try_fold(spent, |sum, promised| sum.checked_add(promised)).unwrap_or(MOST)
    }
}

fn since_epoch(now: SystemTime) -> Duration {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use synesis_ledger::Tier;

    use super::*;

    fn receipt(seq: u64, request_id: &str, prev_hash: [u8; 32]) -> Receipt {
        Receipt {
            account: "acme".to_owned(),
            device: "d".to_owned(),
            request_id: request_id.to_owned(),
            model: "m".to_owned(),
            adapter_generation: 0,
            input_tokens: 1,
            output_tokens: 1,
            tier: Tier::Managed,
            cost: NanoUsd::from_i64(100),
            fee: NanoUsd::from_i64(3),
            credits_used: NanoUsd::ZERO,
            net: NanoUsd::from_i64(103),
            price_version: 1,
            redacted_hash: [0; 32],
            seq,
            prev_hash,
            issued_at_ms: DAY_MS * 3 + 5,
        }
    }

    fn day(n: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * n
    }

    /// Begun on day 3, with 100 nano-dollars at most.
    fn intent(request_id: &str) -> Intent {
        Intent {
            request_id: request_id.to_owned(),
            device_id: "d".to_owned(),
            redacted_hash: String::new(),
            detector_version: String::new(),
            at_ms: DAY_MS * 3,
            most_nanousd: Some(100),
        }
    }

    #[test]
    fn receipts_may_arrive_out_of_order_and_still_have_to_link() {
        let first = receipt(1, "a", [0; 32]);
        let second = receipt(2, "b", first.hash());
        let mut index = Index::default();
        assert_eq!(index.check(&second), Ok(false));
        index.settle(&second, None);
        assert_eq!(index.check(&receipt(1, "x", [0; 32])), Err(ChainFault::After(2)));
        assert_eq!(index.check(&first), Ok(false));
        index.settle(&first, None);
        assert_eq!(index.check(&first), Ok(true), "the same one again is known");
    }

    #[test]
    fn a_second_version_of_the_chain_is_noticed() {
        let first = receipt(1, "a", [0; 32]);
        let mut index = Index::default();
        index.settle(&first, None);
        assert_eq!(index.check(&receipt(1, "b", [0; 32])), Err(ChainFault::Fork(1)));
        assert_eq!(index.check(&receipt(2, "b", [7; 32])), Err(ChainFault::Before(1)));
        assert_eq!(index.check(&receipt(2, "a", first.hash())), Err(ChainFault::ChargedTwice(1)));
        assert_eq!(Index::default().check(&receipt(1, "b", [7; 32])), Err(ChainFault::Before(0)));
    }

    #[test]
    fn a_day_costs_what_its_receipts_sum_up_to() {
        let first = receipt(1, "a", [0; 32]);
        let second = receipt(2, "b", first.hash());
        let mut index = Index::default();
        index.settle(&first, None);
        index.settle(&second, None);
        assert_eq!(index.committed(day(3)), NanoUsd::from_i64(206));
        assert_eq!(index.committed(day(4)), NanoUsd::ZERO);
    }

    #[test]
    fn a_receipt_counts_on_the_day_its_request_was_begun_on_whatever_the_gateway_s_clock_says() {
        let mut index = Index::default();
        index.begin(intent("a"));
        index.settle(&Receipt { issued_at_ms: DAY_MS * 4 + 1, ..receipt(1, "a", [0; 32]) }, Some(DAY_MS * 3));
        assert_eq!(index.committed(day(3)), NanoUsd::from_i64(103));
        assert_eq!(index.committed(day(4)), NanoUsd::ZERO);
    }

    #[test]
    fn an_open_request_counts_with_what_it_may_still_cost() {
        let mut index = Index::default();
        index.begin(intent("a"));
        assert_eq!(index.committed(day(3)), NanoUsd::ZERO, "it is negotiating, and nobody else is");
        index.promise("a", NanoUsd::from_i64(30));
        assert_eq!(index.committed(day(3)), NanoUsd::from_i64(30));
        index.begin(intent("b"));
        index.end("b");
        assert_eq!(index.committed(day(3)), NanoUsd::from_i64(130), "given up before its hold was known");
        assert_eq!(index.committed(day(4)), NanoUsd::ZERO, "what is a day old is not charged today");
        index.settle(&receipt(1, "a", [0; 32]), Some(DAY_MS * 3));
        index.close("b");
        assert_eq!(index.committed(day(3)), NanoUsd::from_i64(103));
        index.open(Intent { most_nanousd: Some(i64::MAX), ..intent("c") });
        assert_eq!(index.committed(day(3)), MOST);
    }

    #[test]
    fn a_request_in_flight_is_pending_but_left_alone() {
        let intent = intent("a");
        let mut index = Index::default();
        index.begin(intent.clone());
        assert_eq!((index.pending_count(), index.unsettled()), (1, vec![]));
        assert!(index.end("a"), "let go while open");
        assert_eq!(index.unsettled(), [intent]);
        index.close("a");
        assert_eq!(index.pending_count(), 0);
        assert!(!index.end("a"));
    }
}
