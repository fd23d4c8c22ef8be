//! From a list cost to what is charged: the fee of the tier, then the credits.

use crate::{NanoUsd, Overflow, Rates, Tier};

const PARTS: i128 = 1_000_000;

/// What one answer costs its account. Build it with [`charge`].
///
/// | tier | fee | counts against | net |
/// |---|---|---|---|
/// | managed | 3 % of cost | the ceiling: cost + fee | cost + fee - credits |
/// | byok | 30 % of cost | the ceiling: fee | fee - credits |
/// | free | 0 | the quota: cost | 0 |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// The tier it was computed for.
    pub tier: Tier,
    /// List cost of the tokens.
    pub cost: NanoUsd,
    /// Our fee.
    pub fee: NanoUsd,
    /// Paid from credits.
    pub credits_used: NanoUsd,
    /// Left to be invoiced.
    pub net: NanoUsd,
}

impl Charge {
    /// What this charge takes from the limit of its tier, before credits: the amount to hold for it.
    pub fn counted(&self) -> Result<NanoUsd, Overflow> {
        match self.tier {
            Tier::Managed => self.cost.checked_add(self.fee),
            Tier::Byok => Ok(self.fee),
            Tier::Free => Ok(self.cost),
        }
    }

    /// Whether the parts are what [`charge`] could have made: none negative, and credits and net together are
    /// what is payable.
    pub fn adds_up(&self) -> bool {
        let parts = [self.cost, self.fee, self.credits_used, self.net];
        let payable = match self.tier {
            Tier::Free => Ok(NanoUsd::ZERO),
            Tier::Managed | Tier::Byok => self.counted(),
        };
        parts.iter().all(|part| !part.is_negative())
            && (self.tier != Tier::Free || self.fee == NanoUsd::ZERO)
            && payable.is_ok_and(|payable| self.credits_used.checked_add(self.net) == Ok(payable))
    }
}

/// Computes the charge for a list cost. Credits are used first, as far as they reach.
/// A negative cost or negative credits are an [`Overflow`].
pub fn charge(
    tier: Tier,
    rates: &Rates,
    cost: NanoUsd,
    credits_available: NanoUsd,
) -> Result<Charge, Overflow> {
    if cost.is_negative() || credits_available.is_negative() {
        return Err(Overflow);
    }
    let fee = fee(tier, rates, cost)?;
    let payable = match tier {
        Tier::Managed => cost.checked_add(fee)?,
        Tier::Byok => fee,
        Tier::Free => NanoUsd::ZERO,
    };
    let credits_used = payable.min(credits_available);
    Ok(Charge { tier, cost, fee, credits_used, net: payable.checked_sub(credits_used)? })
}

/// What a list cost takes from the limit of a tier, before credits. Never falls when the cost grows, so the
/// worst case to hold is that of the most tokens.
pub fn counted(tier: Tier, rates: &Rates, cost: NanoUsd) -> Result<NanoUsd, Overflow> {
    charge(tier, rates, cost, NanoUsd::ZERO)?.counted()
}

/// The largest list cost that takes no more than `limit`: what a charge is cut to when a provider reports more
/// than was held. A negative limit allows nothing.
pub fn cost_within(tier: Tier, rates: &Rates, limit: NanoUsd) -> NanoUsd {
    let fits =
        |cost: i64| counted(tier, rates, NanoUsd::from_i64(cost)).is_ok_and(|counted| counted <= limit);
    // Bisection over a monotone function: `low` fits (or is zero), everything above `high` does not.
    let (mut low, mut high) = (0_i64, i64::MAX);
    while low < high {
        let middle = low + (high - low) / 2 + (high - low) % 2;
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    NanoUsd::from_i64(low)
}

fn fee(tier: Tier, rates: &Rates, cost: NanoUsd) -> Result<NanoUsd, Overflow> {
    let ppm = match tier {
        Tier::Free => 0,
        Tier::Managed => rates.managed_fee_ppm,
        Tier::Byok => rates.byok_fee_ppm,
    };
    // 63 bits times 32 bits cannot leave an i128.
    NanoUsd::from_ratio(i128::from(cost.as_i64()) * i128::from(ppm), PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nano(nano_dollars: i64) -> NanoUsd {
        NanoUsd::from_i64(nano_dollars)
    }

    #[test]
    fn three_percent_of_sixteen_cents_does_not_vanish() {
        let charge = charge(Tier::Managed, &Rates::default(), nano(160_000_000), NanoUsd::ZERO).unwrap();
        assert_eq!(charge.fee, nano(4_800_000));
        assert_eq!(charge.net, nano(164_800_000));
    }

    #[test]
    fn three_percent_of_every_cost_below_seventeen_cents_is_exact_or_half_even() {
        for cost in (1..170_000_000).step_by(99_991) {
            let fee = charge(Tier::Managed, &Rates::default(), nano(cost), NanoUsd::ZERO).unwrap().fee;
            assert!((fee.as_i64() * 100 - cost * 3).abs() <= 50, "fee {fee} on {cost} nano-dollars");
        }
    }

    #[test]
    fn the_fee_rounds_half_to_even() {
        let fee = |cost| charge(Tier::Managed, &Rates::default(), nano(cost), NanoUsd::ZERO).unwrap().fee;
        assert_eq!(fee(50), nano(2), "1.5 goes to 2");
        assert_eq!(fee(150), nano(4), "4.5 goes to 4");
        assert_eq!(fee(16), nano(0), "0.48 of a nano-dollar");
        assert_eq!(fee(17), nano(1), "0.51 of a nano-dollar");
    }

    #[test]
    fn credits_are_used_first_and_only_as_far_as_they_reach() {
        let rates = Rates::default();
        let some = charge(Tier::Managed, &rates, nano(1_000), nano(30)).unwrap();
        assert_eq!((some.credits_used, some.net), (nano(30), nano(1_000)));
        let plenty = charge(Tier::Managed, &rates, nano(1_000), nano(5_000)).unwrap();
        assert_eq!((plenty.credits_used, plenty.net), (nano(1_030), nano(0)));
    }

    #[test]
    fn with_an_own_key_only_the_licence_fee_is_charged() {
        let charge = charge(Tier::Byok, &Rates::default(), nano(1_000), nano(100)).unwrap();
        assert_eq!((charge.fee, charge.credits_used, charge.net), (nano(300), nano(100), nano(200)));
        assert_eq!(charge.counted(), Ok(nano(300)));
    }

    #[test]
    fn free_charges_nothing_and_counts_its_cost() {
        let charge = charge(Tier::Free, &Rates::default(), nano(1_000), nano(100)).unwrap();
        assert_eq!((charge.fee, charge.credits_used, charge.net), (nano(0), nano(0), nano(0)));
        assert_eq!(charge.counted(), Ok(nano(1_000)));
    }

    #[test]
    fn negative_and_overflowing_amounts_are_errors() {
        let rates = Rates::default();
        assert_eq!(charge(Tier::Managed, &rates, nano(-1), nano(0)), Err(Overflow));
        assert_eq!(charge(Tier::Managed, &rates, nano(1), nano(-1)), Err(Overflow));
        assert_eq!(charge(Tier::Managed, &rates, NanoUsd::MAX, nano(0)), Err(Overflow));
        assert!(charge(Tier::Free, &rates, NanoUsd::MAX, nano(0)).is_ok());
    }

    #[test]
    fn a_forged_charge_does_not_add_up() {
        let good = charge(Tier::Managed, &Rates::default(), nano(1_000), nano(10)).unwrap();
        assert!(good.adds_up());
        assert!(!Charge { net: nano(0), ..good }.adds_up());
        assert!(!Charge { cost: nano(-1_000), net: nano(-980), ..good }.adds_up());
        assert!(!Charge { tier: Tier::Free, ..good }.adds_up());
    }

    fn tiers() -> impl Strategy<Value = Tier> {
        prop_oneof![Just(Tier::Free), Just(Tier::Managed), Just(Tier::Byok)]
    }

    proptest! {
        #[test]
        fn every_charge_adds_up(tier in tiers(), cost in 0..i64::MAX / 2, credits in 0..i64::MAX) {
            prop_assert!(charge(tier, &Rates::default(), nano(cost), nano(credits)).unwrap().adds_up());
        }

        #[test]
        fn what_counts_never_falls_when_the_cost_grows(tier in tiers(), cost in 0..i64::MAX / 4, more in 0..1_000_i64) {
            let rates = Rates::default();
            prop_assert!(counted(tier, &rates, nano(cost)) .unwrap() <= counted(tier, &rates, nano(cost + more)).unwrap());
        }

        #[test]
        fn the_cost_within_a_limit_is_the_largest_that_fits(tier in tiers(), limit in 0..i64::MAX / 8) {
            let rates = Rates::default();
            let cost = cost_within(tier, &rates, nano(limit));
            prop_assert!(counted(tier, &rates, cost).unwrap() <= nano(limit));
            let next = cost.checked_add(nano(1)).unwrap();
            prop_assert!(counted(tier, &rates, next).unwrap() > nano(limit));
        }
    }
}
