//! What an account may still spend: hold the worst case, then settle or release it.
//!
//! Each transition either happens completely or leaves the account as it was, and none reads a clock or a
//! database: whoever stores accounts runs one transition inside one transaction.

use crate::{Charge, NanoUsd, Overflow, Tier};

/// The money side of an account.
///
/// Through [`hold`](Self::hold) alone, `unbilled + held` never passes `ceiling + credits` on a paying tier, and
/// `quota_used + held` never passes `quota` on the free one. As a settled charge never exceeds its hold,
/// `unbilled` stays at or below the ceiling under any interleaving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// How the account pays for what is held from now on.
    pub tier: Tier,
    /// The most that may be unbilled and held together, credits aside; `None`: no ceiling. Paying tiers only.
    pub ceiling: Option<NanoUsd>,
    /// List cost that is free in the current period. Free tier only; `None` there means that nothing is.
    pub quota: Option<NanoUsd>,
    /// Paid in advance or granted, not yet used.
    pub credits: NanoUsd,
    /// Settled, net of credits, not yet invoiced.
    pub unbilled: NanoUsd,
    /// Reserved for answers on their way, before credits.
    pub held: NanoUsd,
    /// List cost that the free tier used in the current period.
    pub quota_used: NanoUsd,
}

/// Why an amount was not held. The account is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The worst case could pass the ceiling.
    #[error(
        "up to {asked} could pass the spend ceiling of {ceiling}: {unbilled} is unbilled, {held} is held, {credits} of credits is left"
    )]
    CeilingReached {
        /// What was to be held.
        asked: NanoUsd,
        /// The account's ceiling.
        ceiling: NanoUsd,
        /// Settled and not yet invoiced.
        unbilled: NanoUsd,
        /// Held by other answers.
        held: NanoUsd,
        /// Credits left.
        credits: NanoUsd,
    },
    /// The worst case does not fit into what is left of the free quota.
    #[error("up to {asked} does not fit the free quota of {quota}: {used} is used, {held} is held")]
    QuotaExhausted {
        /// What was to be held.
        asked: NanoUsd,
        /// The quota of the period; zero if the account has none.
        quota: NanoUsd,
        /// Used in the period.
        used: NanoUsd,
        /// Held by other answers.
        held: NanoUsd,
    },
    /// The amount is negative or the sum does not fit.
    #[error(transparent)]
    Overflow(#[from] Overflow),
}

/// Why a hold was not settled or released. The account is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The charge takes more than was held. Cut its cost with [`cost_within`](crate::cost_within), and record
    /// what was cut.
    #[error("the charge counts {counted}, but only {held} was held for it")]
    ExceedsHold {
        /// What was held for it.
        held: NanoUsd,
        /// What it takes.
        counted: NanoUsd,
    },
    /// The account does not hold that much: the hold was settled or released before.
    #[error("{amount} is to be settled or released, but the account holds only {held}")]
    NotHeld {
        /// The hold that was named.
        amount: NanoUsd,
        /// All that the account holds.
        held: NanoUsd,
    },
    /// The charge was computed with credits that have been used since.
    #[error("the charge uses {used} of credits, but {left} is left")]
    CreditsGone {
        /// What the charge uses.
        used: NanoUsd,
        /// What the account has.
        left: NanoUsd,
    },
    /// The parts of the charge do not add up.
    #[error("the parts of the charge do not add up")]
    Inconsistent,
    /// An amount is negative or a sum does not fit.
    #[error(transparent)]
    Overflow(#[from] Overflow),
}

impl Account {
    /// A new account that owes nothing.
    pub const fn new(tier: Tier, ceiling: Option<NanoUsd>, quota: Option<NanoUsd>) -> Self {
        Self {
            tier,
            ceiling,
            quota,
            credits: NanoUsd::ZERO,
            unbilled: NanoUsd::ZERO,
            held: NanoUsd::ZERO,
            quota_used: NanoUsd::ZERO,
        }
    }

    /// Reserves the most that an answer can take from the tier's limit: [`counted`](crate::counted) of its
    /// worst-case cost.
    pub fn hold(&mut self, amount: NanoUsd) -> Result<(), Refused> {
        non_negative(amount)?;
        let held = self.held.checked_add(amount)?;
        match (self.tier, self.ceiling) {
            (Tier::Free, _) => {
                let quota = self.quota.unwrap_or(NanoUsd::ZERO);
                if self.quota_used.checked_add(held)? > quota {
                    return Err(Refused::QuotaExhausted {
                        asked: amount,
                        quota,
                        used: self.quota_used,
                        held: self.held,
                    });
                }
            }
            (Tier::Managed | Tier::Byok, Some(ceiling)) => {
                if wide(self.unbilled) + wide(held) > wide(ceiling) + wide(self.credits) {
                    return Err(Refused::CeilingReached {
                        asked: amount,
                        ceiling,
                        unbilled: self.unbilled,
                        held: self.held,
                        credits: self.credits,
                    });
                }
            }
            (Tier::Managed | Tier::Byok, None) => {}
        }
        self.held = held;
        Ok(())
    }

    /// Turns a hold into its charge. What was held beyond the charge is free again.
    /// Compute the charge with [`credits`](Self::credits) as they are now, in the same transaction.
    pub fn settle(&mut self, held: NanoUsd, charge: &Charge) -> Result<(), SettleError> {
        if !charge.adds_up() {
            return Err(SettleError::Inconsistent);
        }
        let counted = charge.counted()?;
        if counted > held {
            return Err(SettleError::ExceedsHold { held, counted });
        }
        if charge.credits_used > self.credits {
            return Err(SettleError::CreditsGone { used: charge.credits_used, left: self.credits });
        }
        let mut next = self.clone();
        next.release(held)?;
        next.credits = next.credits.checked_sub(charge.credits_used)?;
        next.unbilled = next.unbilled.checked_add(charge.net)?;
        if charge.tier == Tier::Free {
            next.quota_used = next.quota_used.checked_add(charge.cost)?;
        }
        *self = next;
        Ok(())
    }

    /// Gives a hold back unused.
    pub fn release(&mut self, held: NanoUsd) -> Result<(), SettleError> {
        non_negative(held)?;
        if held > self.held {
            return Err(SettleError::NotHeld { amount: held, held: self.held });
        }
        self.held = self.held.checked_sub(held)?;
        Ok(())
    }

    /// Adds credits.
    pub fn credit(&mut self, amount: NanoUsd) -> Result<(), Overflow> {
        non_negative(amount)?;
        self.credits = self.credits.checked_add(amount)?;
        Ok(())
    }

    /// What is left of the free quota, holds included; `None` on a tier without one.
    pub fn quota_left(&self) -> Option<NanoUsd> {
        (self.tier == Tier::Free).then(|| {
            let quota = wide(self.quota.unwrap_or(NanoUsd::ZERO));
            let left = (quota - wide(self.quota_used) - wide(self.held)).max(0);
            i64::try_from(left).map_or(NanoUsd::MAX, NanoUsd::from_i64)
        })
    }
}

fn non_negative(amount: NanoUsd) -> Result<(), Overflow> {
    if amount.is_negative() { Err(Overflow) } else { Ok(()) }
}

/// For comparing sums that need not fit an amount.
const fn wide(amount: NanoUsd) -> i128 {
    amount.as_i64() as i128
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rates, charge};

    fn nano(nano_dollars: i64) -> NanoUsd {
        NanoUsd::from_i64(nano_dollars)
    }

    fn managed(ceiling: i64) -> Account {
        Account::new(Tier::Managed, Some(nano(ceiling)), None)
    }

    fn charged(account: &Account, cost: i64) -> Charge {
        charge(account.tier, &Rates::default(), nano(cost), account.credits).unwrap()
    }

    #[test]
    fn a_request_that_could_pass_the_ceiling_is_refused_before_it_runs() {
        let mut account = managed(1_000);
        account.hold(nano(600)).unwrap();
        let before = account.clone();
        let refused = account.hold(nano(401)).unwrap_err();
        assert!(
            matches!(refused, Refused::CeilingReached { asked, held, .. } if asked == nano(401) && held == nano(600))
        );
        assert_eq!(account, before);
        account.hold(nano(400)).unwrap();
    }

    #[test]
    fn settling_bills_the_net_and_frees_the_rest_of_the_hold() {
        let mut account = managed(10_000);
        account.hold(nano(5_000)).unwrap();
        let charge = charged(&account, 1_000);
        account.settle(nano(5_000), &charge).unwrap();
        assert_eq!((account.unbilled, account.held), (nano(1_030), nano(0)));
    }

    #[test]
    fn credits_raise_what_may_be_held_and_are_used_first() {
        let mut account = managed(0);
        assert!(account.hold(nano(1)).is_err());
        account.credit(nano(2_000)).unwrap();
        account.hold(nano(2_000)).unwrap();
        let charge = charged(&account, 1_000);
        account.settle(nano(2_000), &charge).unwrap();
        assert_eq!((account.credits, account.unbilled), (nano(970), nano(0)));
    }

    #[test]
    fn settling_beyond_the_hold_says_so_and_changes_nothing() {
        let mut account = managed(10_000);
        account.hold(nano(1_029)).unwrap();
        let before = account.clone();
        let error = account.settle(nano(1_029), &charged(&before, 1_000)).unwrap_err();
        assert_eq!(error, SettleError::ExceedsHold { held: nano(1_029), counted: nano(1_030) });
        assert_eq!(account, before);
        let cut = crate::cost_within(Tier::Managed, &Rates::default(), nano(1_029));
        account.settle(nano(1_029), &charged(&before, cut.as_i64())).unwrap();
    }

    #[test]
    fn a_hold_settles_or_releases_once() {
        let mut account = managed(10_000);
        account.hold(nano(2_000)).unwrap();
        let charge = charged(&account, 1_000);
        account.settle(nano(2_000), &charge).unwrap();
        let again = SettleError::NotHeld { amount: nano(2_000), held: nano(0) };
        assert_eq!(account.settle(nano(2_000), &charge), Err(again));
        assert_eq!(account.release(nano(2_000)), Err(again));
        assert_eq!(account.unbilled, nano(1_030));
    }

    #[test]
    fn a_charge_computed_with_spent_credits_is_refused() {
        let mut account = managed(10_000);
        account.credit(nano(500)).unwrap();
        account.hold(nano(5_000)).unwrap();
        let early = charged(&account, 1_000);
        let twin = charged(&account, 1_000);
        account.settle(nano(2_500), &early).unwrap();
        let error = account.settle(nano(2_500), &twin).unwrap_err();
        assert_eq!(error, SettleError::CreditsGone { used: nano(500), left: nano(0) });
    }

    #[test]
    fn the_free_tier_stops_at_its_quota_and_owes_nothing() {
        let mut account = Account::new(Tier::Free, None, Some(nano(1_000)));
        account.hold(nano(800)).unwrap();
        let charge = charged(&account, 700);
        account.settle(nano(800), &charge).unwrap();
        assert_eq!(
            (account.unbilled, account.quota_used, account.quota_left()),
            (nano(0), nano(700), Some(nano(300)))
        );
        assert!(matches!(account.hold(nano(301)), Err(Refused::QuotaExhausted { .. })));
        account.hold(nano(300)).unwrap();
        assert_eq!(account.quota_left(), Some(nano(0)));
    }

    #[test]
    fn a_free_account_without_a_quota_gets_nothing() {
        let mut account = Account::new(Tier::Free, None, None);
        assert!(matches!(account.hold(nano(1)), Err(Refused::QuotaExhausted { .. })));
        assert_eq!(account.quota_left(), Some(nano(0)));
        assert_eq!(managed(5).quota_left(), None);
    }

    #[test]
    fn an_own_key_counts_only_the_fee_against_the_ceiling() {
        let mut account = Account::new(Tier::Byok, Some(nano(300)), None);
        account.hold(nano(300)).unwrap();
        let charge = charged(&account, 1_000);
        account.settle(nano(300), &charge).unwrap();
        assert_eq!(account.unbilled, nano(300));
    }

    #[test]
    fn negative_and_absurd_amounts_are_refused() {
        let mut account = Account::new(Tier::Managed, None, None);
        assert_eq!(account.hold(nano(-1)), Err(Refused::Overflow(Overflow)));
        assert_eq!(account.release(nano(-1)), Err(SettleError::Overflow(Overflow)));
        assert_eq!(account.credit(nano(-1)), Err(Overflow));
        account.hold(NanoUsd::MAX).unwrap();
        assert_eq!(account.hold(nano(1)), Err(Refused::Overflow(Overflow)));
        let forged = Charge { net: nano(5), ..charged(&account, 0) };
        assert_eq!(account.settle(NanoUsd::MAX, &forged), Err(SettleError::Inconsistent));
    }

    #[test]
    fn a_refusal_reads_as_a_sentence_with_amounts() {
        let refused = managed(1_000_000_000).hold(nano(2_000_000_000)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "up to $2.00 could pass the spend ceiling of $1.00: $0.00 is unbilled, $0.00 is held, $0.00 of credits is left"
        );
    }
}
