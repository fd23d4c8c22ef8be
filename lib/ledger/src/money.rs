//! The amount type: integer nano-dollars, checked arithmetic, exact decimals in, and the one rounding rule.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const PER_DOLLAR: i64 = 1_000_000_000;
const DECIMALS: usize = 9;

/// An amount of money in nano-dollars (1e-9 USD).
///
/// Sums and differences are exact or an [`Overflow`]. Only a price times tokens and a fee rate times a cost
/// can fall between two nano-dollars; both round **half to even**, once, when they are computed. Rounding to
/// the cent is left to the invoice.
///
/// Negative values exist so that differences can be expressed; nothing that charges accepts one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoUsd(i64);

/// An amount left the range that it may have: 64-bit nano-dollars (about 9.2 billion USD), and not below zero
/// where a cost, a fee or a balance is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("amount out of range")]
pub struct Overflow;

/// Why a text is not an amount in dollars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseUsdError {
    /// Nothing there, or only a point.
    #[error("an amount needs digits, such as 3 or 0.15")]
    NoDigits,
    /// A minus sign.
    #[error("an amount cannot be negative")]
    Negative,
    /// Scientific notation; exact decimals only.
    #[error("write the amount without an exponent, such as 0.0000015")]
    Exponent,
    /// Finer than a nano-dollar.
    #[error("{found} decimals, but an amount has at most {DECIMALS}")]
    TooManyDecimals {
        /// How many decimals the text has.
        found: usize,
    },
    /// Anything but digits and one point between them.
    #[error("unexpected {found:?} in an amount; write digits and at most one point between them")]
    Unexpected {
        /// The first character that does not belong.
        found: char,
    },
    /// More than 64-bit nano-dollars hold.
    #[error("the amount is above 9223372036.854775807 USD")]
    TooLarge,
}

impl NanoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount there is.
    pub const MAX: Self = Self(i64::MAX);

    /// An amount from its number of nano-dollars.
    pub const fn from_i64(nano_dollars: i64) -> Self {
        Self(nano_dollars)
    }

    /// The number of nano-dollars.
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// Whether the amount is below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The exact sum.
    pub const fn checked_add(self, other: Self) -> Result<Self, Overflow> {
        match self.0.checked_add(other.0) {
            Some(sum) => Ok(Self(sum)),
            None => Err(Overflow),
        }
    }

    /// The exact difference, which may be negative.
    pub const fn checked_sub(self, other: Self) -> Result<Self, Overflow> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Ok(Self(difference)),
            None => Err(Overflow),
        }
    }

    /// Reads an amount in dollars, exactly: `3`, `0.15`, `0.0375`. No sign, no exponent, at most nine decimals.
    pub fn parse_usd(text: &str) -> Result<Self, ParseUsdError> {
        if text.starts_with('-') {
            return Err(ParseUsdError::Negative);
        }
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        if whole.is_empty() && (fraction.is_empty() || !text.contains('.')) {
            return Err(ParseUsdError::NoDigits);
        }
        for part in [whole, fraction] {
            match part.chars().find(|c| !c.is_ascii_digit()) {
                Some('e' | 'E') => return Err(ParseUsdError::Exponent),
                Some(found) => return Err(ParseUsdError::Unexpected { found }),
                None if part.is_empty() => return Err(ParseUsdError::Unexpected { found: '.' }),
                None => {}
            }
        }
        if fraction.len() > DECIMALS {
            return Err(ParseUsdError::TooManyDecimals { found: fraction.len() });
        }
        let too_large = |_| ParseUsdError::TooLarge;
        let dollars: i64 = whole.parse().map_err(too_large)?;
        let nanos: i64 = format!("{fraction:0<DECIMALS$}").parse().map_err(too_large)?;
        dollars
            .checked_mul(PER_DOLLAR)
            .and_then(|dollars| dollars.checked_add(nanos))
            .map(Self)
            .ok_or(ParseUsdError::TooLarge)
    }

    /// `numerator / denominator`, rounded half to even: the only place where an amount is rounded.
    /// Neither may be negative, and the denominator not zero.
    pub(crate) fn from_ratio(numerator: i128, denominator: i128) -> Result<Self, Overflow> {
        if numerator < 0 || denominator <= 0 {
            return Err(Overflow);
        }
        let (quotient, remainder) = (numerator / denominator, numerator % denominator);
        // Compared with what is left to the next whole, because twice the remainder could overflow.
        let round_up = match remainder.cmp(&(denominator - remainder)) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => quotient % 2 == 1,
            std::cmp::Ordering::Greater => true,
        };
        i64::try_from(quotient + i128::from(round_up)).map(Self).map_err(|_| Overflow)
    }
}

impl FromStr for NanoUsd {
    type Err = ParseUsdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_usd(text)
    }
}

/// In dollars, exact, with at least two decimals: `$3.00`, `$0.0375`, `-$0.000000001`.
impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let per_dollar = PER_DOLLAR.unsigned_abs();
        let decimals = format!("{:09}", magnitude % per_dollar);
        let (cents, finer) = decimals.split_at(2);
        let sign = if self.0 < 0 { "-" } else { "" };
        let text = format!("{sign}${}.{cents}{}", magnitude / per_dollar, finer.trim_end_matches('0'));
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_of_a_config_convert_exactly() {
        for (text, nano_dollars) in [
            ("0", 0),
            ("3", 3_000_000_000),
            ("0.15", 150_000_000),
            ("0.0375", 37_500_000),
            ("0.000000001", 1),
            ("1.10", 1_100_000_000),
            ("9223372036.854775807", i64::MAX),
        ] {
            assert_eq!(NanoUsd::parse_usd(text), Ok(NanoUsd(nano_dollars)), "{text}");
        }
    }

    #[test]
    fn a_float_that_was_written_as_a_decimal_converts_exactly() {
        for (number, nano_dollars) in
            [(0.15_f64, 150_000_000), (0.0375, 37_500_000), (1e-7, 100), (3.0, 3_000_000_000)]
        {
            assert_eq!(NanoUsd::parse_usd(&number.to_string()), Ok(NanoUsd(nano_dollars)));
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        use ParseUsdError as E;
        for (text, error) in [
            ("", E::NoDigits),
            (".", E::NoDigits),
            ("-1", E::Negative),
            ("-0.1", E::Negative),
            ("1e3", E::Exponent),
            ("1.5E-3", E::Exponent),
            ("0.0000000001", E::TooManyDecimals { found: 10 }),
            ("$3", E::Unexpected { found: '$' }),
            ("+3", E::Unexpected { found: '+' }),
            ("3 ", E::Unexpected { found: ' ' }),
            ("1,5", E::Unexpected { found: ',' }),
            ("1.2.3", E::Unexpected { found: '.' }),
            (".5", E::Unexpected { found: '.' }),
            ("5.", E::Unexpected { found: '.' }),
            ("1_000", E::Unexpected { found: '_' }),
            ("NaN", E::Unexpected { found: 'N' }),
            ("٣", E::Unexpected { found: '٣' }),
            ("9223372036.854775808", E::TooLarge),
            ("99999999999999999999", E::TooLarge),
        ] {
            assert_eq!(NanoUsd::parse_usd(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn half_rounds_to_even_and_the_rest_to_the_nearest() {
        for (numerator, denominator, rounded) in [
            (5, 10, 0),
            (15, 10, 2),
            (25, 10, 2),
            (35, 10, 4),
            (24, 10, 2),
            (26, 10, 3),
            (1, 3, 0),
            (2, 3, 1),
            (9, 3, 3),
        ] {
            assert_eq!(
                NanoUsd::from_ratio(numerator, denominator),
                Ok(NanoUsd(rounded)),
                "{numerator}/{denominator}"
            );
        }
    }

    #[test]
    fn a_ratio_out_of_range_is_an_error() {
        assert_eq!(NanoUsd::from_ratio(i128::MAX, 1), Err(Overflow));
        assert_eq!(NanoUsd::from_ratio(-1, 2), Err(Overflow));
        assert_eq!(NanoUsd::from_ratio(1, 0), Err(Overflow));
        assert_eq!(NanoUsd::from_ratio(i128::MAX - 1, i128::MAX), Ok(NanoUsd(1)));
    }

    #[test]
    fn sums_never_wrap() {
        assert_eq!(NanoUsd::MAX.checked_add(NanoUsd(1)), Err(Overflow));
        assert_eq!(NanoUsd(i64::MIN).checked_sub(NanoUsd(1)), Err(Overflow));
        assert_eq!(NanoUsd(2).checked_sub(NanoUsd(5)), Ok(NanoUsd(-3)));
    }

    #[test]
    fn an_amount_prints_exactly_in_dollars() {
        for (nano_dollars, text) in [
            (0, "$0.00"),
            (3_000_000_000, "$3.00"),
            (37_500_000, "$0.0375"),
            (123_456, "$0.000123456"),
            (-1, "-$0.000000001"),
            (i64::MIN, "-$9223372036.854775808"),
        ] {
            assert_eq!(NanoUsd(nano_dollars).to_string(), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn printing_and_reading_agree(nano_dollars in 0..=i64::MAX) {
            let amount = NanoUsd(nano_dollars);
            proptest::prop_assert_eq!(NanoUsd::parse_usd(amount.to_string().trim_start_matches('$')), Ok(amount));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = NanoUsd::parse_usd(&text);
        }
    }
}
