//! What tokens cost: data with a version, never constants.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{NanoUsd, Overflow};

const TOKENS_PER_UNIT: i128 = 1_000_000;

/// The price of one model, in nano-dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// For a million tokens of prompt.
    pub input_per_mtok: NanoUsd,
    /// For a million tokens of answer.
    pub output_per_mtok: NanoUsd,
}

impl Price {
    /// What so many tokens cost at list price: computed without loss, then rounded once, half to even, to the
    /// nano-dollar. A negative price is an [`Overflow`] too.
    pub fn cost(&self, input_tokens: u64, output_tokens: u64) -> Result<NanoUsd, Overflow> {
        let part = |price: NanoUsd, tokens: u64| {
            if price.is_negative() {
                None
            } else {
                i128::from(price.as_i64()).checked_mul(i128::from(tokens))
            }
        };
        let input = part(self.input_per_mtok, input_tokens).ok_or(Overflow)?;
        let output = part(self.output_per_mtok, output_tokens).ok_or(Overflow)?;
        NanoUsd::from_ratio(input.checked_add(output).ok_or(Overflow)?, TOKENS_PER_UNIT)
    }
}

/// The prices in force, under the version that each receipt names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PriceTable {
    /// Grows with every change of a price.
    pub version: u64,
    /// By model name.
    pub prices: BTreeMap<String, Price>,
}

impl PriceTable {
    /// The price of a model. A model without one must be refused, not billed at zero.
    pub fn price(&self, model: &str) -> Option<&Price> {
        self.prices.get(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(input: &str, output: &str) -> Price {
        Price { input_per_mtok: input.parse().unwrap(), output_per_mtok: output.parse().unwrap() }
    }

    #[test]
    fn a_cost_is_tokens_times_price_to_the_nano_dollar() {
        let price = price("0.15", "0.60");
        assert_eq!(price.cost(1_000, 500), Ok(NanoUsd::from_i64(450_000)));
        assert_eq!(price.cost(1, 0), Ok(NanoUsd::from_i64(150)));
        assert_eq!(price.cost(0, 0), Ok(NanoUsd::ZERO));
    }

    #[test]
    fn both_directions_are_added_before_the_one_rounding() {
        // 0.3 + 0.3 nano-dollars: rounded apart they would vanish.
        let price =
            Price { input_per_mtok: NanoUsd::from_i64(300_000), output_per_mtok: NanoUsd::from_i64(300_000) };
        assert_eq!(price.cost(1, 1), Ok(NanoUsd::from_i64(1)));
    }

    #[test]
    fn absurd_amounts_are_errors() {
        let huge = Price { input_per_mtok: NanoUsd::MAX, output_per_mtok: NanoUsd::MAX };
        assert_eq!(huge.cost(u64::MAX, u64::MAX), Err(Overflow));
        assert_eq!(huge.cost(1_000_001, 0), Err(Overflow));
        assert_eq!(huge.cost(1_000_000, 0), Ok(NanoUsd::MAX));
        let negative =
            Price { input_per_mtok: NanoUsd::from_i64(-1), output_per_mtok: NanoUsd::from_i64(10_000_000) };
        assert_eq!(negative.cost(1, 1), Err(Overflow));
    }

    #[test]
    fn a_model_without_a_price_has_none() {
        let table = PriceTable { version: 1, prices: [("known".to_owned(), price("1", "2"))].into() };
        assert!(table.price("known").is_some());
        assert!(table.price("unknown").is_none());
    }
}
