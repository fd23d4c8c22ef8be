//! An amount of money in a configuration file, kept as the decimal text that was written.
//!
//! TOML hands a bare `0.15` over as a binary float. A decimal of at most 15 significant digits is the shortest one
//! that reads back as that float, so printing the float gives the written text again; anything longer must be
//! quoted, and is refused otherwise.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// The significant decimal digits that survive a trip through a binary float (`f64::DIGITS`).
const EXACT_DIGITS: usize = f64::DIGITS as usize;

/// The decimal text of an amount in US dollars, not checked further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UsdText(pub(super) String);

impl<'de> Deserialize<'de> for UsdText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AmountVisitor)
    }
}

struct AmountVisitor;

impl Visitor<'_> for AmountVisitor {
    type Value = UsdText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount in US dollars, as a number or a quoted decimal")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<UsdText, E> {
        Ok(UsdText(text.trim().to_owned()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<UsdText, E> {
        Ok(UsdText(value.to_string()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<UsdText, E> {
        Ok(UsdText(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<UsdText, E> {
        let text = value.to_string();
        let digits = text.bytes().filter(u8::is_ascii_digit).collect::<Vec<_>>();
        let significant = digits.iter().skip_while(|digit| **digit == b'0').count();
        if !value.is_finite() || significant > EXACT_DIGITS {
            return Err(E::custom(
                "this number cannot be read exactly; write it in quotes, for example \"0.15\"",
            ));
        }
        Ok(UsdText(text))
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error as ValueError, F64Deserializer, I64Deserializer};

    use super::*;

    fn float(value: f64) -> Result<String, ValueError> {
        let deserializer: F64Deserializer<ValueError> = value.into_deserializer();
        UsdText::deserialize(deserializer).map(|amount| amount.0)
    }

    #[test]
    fn a_written_decimal_is_read_back_as_it_was_written() {
        for text in ["0.15", "0.1", "0.000000001", "2.5", "0.075", "123456.123456789", "0.3", "1e-9"] {
            let back = float(text.parse().unwrap()).unwrap();
            assert_eq!(back.parse::<f64>(), text.parse::<f64>());
            if !text.contains('e') {
                assert_eq!(back, text);
            }
        }
    }

    #[test]
    fn whole_numbers_are_whole() {
        let deserializer: I64Deserializer<ValueError> = 15i64.into_deserializer();
        assert_eq!(UsdText::deserialize(deserializer), Ok(UsdText("15".to_owned())));
        assert_eq!(float(15.0), Ok("15".to_owned()));
    }

    #[test]
    fn a_number_that_lost_digits_must_be_quoted() {
        for value in [0.123_456_789_012_345_67, f64::NAN, f64::INFINITY, 1.0 / 3.0] {
            assert!(float(value).is_err(), "{value}");
        }
    }
}
