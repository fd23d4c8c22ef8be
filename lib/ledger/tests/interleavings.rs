//! Any interleaving of holds, settles, releases, credits and retries keeps the books: an independent list of
//! entries adds up to the account at each step, and nothing passes the ceiling or the quota.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail loudly too"
)]

use proptest::prelude::*;
use synesis_ledger::{Account, Charge, NanoUsd, Rates, Tier, charge, cost_within, counted};

/// What a caller may try. Indices pick one of the open holds; `permille` of its worst case is what it cost.
#[derive(Debug, Clone)]
enum Step {
    Hold { worst_cost: i64 },
    Settle { hold: usize, permille: i64 },
    ReleaseTwice { hold: usize },
    Release { hold: usize },
    Credit { amount: i64 },
}

/// One line of the books, appended and never changed.
enum Entry {
    Held(i64),
    Settled { hold: i64, charge: Charge },
    Released(i64),
    Credited(i64),
}

struct Open {
    worst_cost: i64,
    held: NanoUsd,
}

fn nano(nano_dollars: i64) -> NanoUsd {
    NanoUsd::from_i64(nano_dollars)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any_hold = 0..8_usize;
    let step = prop_oneof![
        4 => (0..3_000_i64).prop_map(|worst_cost| Step::Hold { worst_cost }),
        // Beyond 1000: the provider reports more than the worst case.
        3 => (any_hold.clone(), 0..1_300_i64).prop_map(|(hold, permille)| Step::Settle { hold, permille }),
        1 => any_hold.clone().prop_map(|hold| Step::ReleaseTwice { hold }),
        1 => any_hold.prop_map(|hold| Step::Release { hold }),
        1 => (0..2_000_i64).prop_map(|amount| Step::Credit { amount }),
    ];
    prop::collection::vec(step, 1..80)
}

fn accounts() -> impl Strategy<Value = Account> {
    let tier = prop_oneof![Just(Tier::Free), Just(Tier::Managed), Just(Tier::Byok)];
    (tier, prop::option::of(0..10_000_i64), prop::option::of(0..10_000_i64))
        .prop_map(|(tier, ceiling, quota)| Account::new(tier, ceiling.map(nano), quota.map(nano)))
}

/// What the entries say the account must be.
fn sums(entries: &[Entry]) -> (i64, i64, i64, i64) {
    let (mut held, mut unbilled, mut credits, mut used) = (0, 0, 0, 0);
    for entry in entries {
        match entry {
            Entry::Held(amount) => held += amount,
            Entry::Released(amount) => held -= amount,
            Entry::Credited(amount) => credits += amount,
            Entry::Settled { hold, charge } => {
                held -= hold;
                unbilled += charge.net.as_i64();
                credits -= charge.credits_used.as_i64();
                if charge.tier == Tier::Free {
                    used += charge.cost.as_i64();
                }
            }
        }
    }
    (held, unbilled, credits, used)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_books_balance_and_the_limits_hold(mut account in accounts(), steps in steps()) {
        let rates = Rates::default();
        let mut entries: Vec<Entry> = Vec::new();
        let mut open: Vec<Open> = Vec::new();
        for step in steps {
            let before = account.clone();
            match step {
                Step::Hold { worst_cost } => {
                    let held = counted(account.tier, &rates, nano(worst_cost)).unwrap();
                    match account.hold(held) {
                        Ok(()) => {
                            entries.push(Entry::Held(held.as_i64()));
                            open.push(Open { worst_cost, held });
                        }
                        Err(_) => prop_assert_eq!(&account, &before),
                    }
                }
                Step::Settle { hold, permille } if hold < open.len() => {
                    let Open { worst_cost, held } = open.swap_remove(hold);
                    let cost = nano(worst_cost * permille / 1_000);
                    let full = charge(account.tier, &rates, cost, account.credits).unwrap();
                    let settled = match account.settle(held, &full) {
                        Ok(()) => full,
                        Err(_) => {
                            prop_assert!(full.counted().unwrap() > held);
                            prop_assert_eq!(&account, &before);
                            let cut = cost.min(cost_within(account.tier, &rates, held));
                            let cut = charge(account.tier, &rates, cut, account.credits).unwrap();
                            account.settle(held, &cut).unwrap();
                            cut
                        }
                    };
                    entries.push(Entry::Settled { hold: held.as_i64(), charge: settled });
                }
                Step::ReleaseTwice { hold } if hold < open.len() && open.len() == 1 => {
                    // Only when nothing else is held that the second release could be mistaken for.
                    let Open { held, .. } = open.remove(hold);
                    account.release(held).unwrap();
                    entries.push(Entry::Released(held.as_i64()));
                    if held > NanoUsd::ZERO {
                        prop_assert!(account.release(held).is_err());
                    }
                }
                Step::Release { hold } if hold < open.len() => {
                    let Open { held, .. } = open.swap_remove(hold);
                    account.release(held).unwrap();
                    entries.push(Entry::Released(held.as_i64()));
                }
                Step::Credit { amount } => {
                    account.credit(nano(amount)).unwrap();
                    entries.push(Entry::Credited(amount));
                }
                _ => {}
            }

            let now = (account.held, account.unbilled, account.credits, account.quota_used);
            let (held, unbilled, credits, used) = sums(&entries);
            prop_assert_eq!(now, (nano(held), nano(unbilled), nano(credits), nano(used)));
            prop_assert!(held >= 0 && unbilled >= 0 && credits >= 0 && used >= 0);
            if account.tier == Tier::Free {
                prop_assert!(used + held <= account.quota.map_or(0, NanoUsd::as_i64));
                prop_assert_eq!(unbilled, 0);
            } else if let Some(ceiling) = account.ceiling {
                prop_assert!(unbilled + held <= ceiling.as_i64() + credits);
                prop_assert!(unbilled <= ceiling.as_i64());
            }
        }
    }
}
