//! Validators: is this text what its shape claims? Each is total: any input gives an answer.

pub(crate) mod card;
pub(crate) mod dialling;
pub(crate) mod iban;
pub(crate) mod jwt;
pub(crate) mod secrecy;
pub(crate) mod ssn;
pub(crate) mod vin;

/// The Luhn check over ASCII digits (ISO/IEC 7812-1 annex B). False for an empty text or any other byte.
pub(crate) fn luhn(digits: &[u8]) -> bool {
    let mut sum = 0u32;
    for (place, byte) in digits.iter().rev().enumerate() {
        if !byte.is_ascii_digit() {
            return false;
        }
        let digit = u32::from(byte - b'0');
        sum += match (place % 2, digit) {
            (0, d) => d,
            (_, d) if d > 4 => 2 * d - 9,
            (_, d) => 2 * d,
        };
    }
    !digits.is_empty() && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::luhn;

    #[test]
    fn luhn_accepts_a_valid_number_and_no_single_digit_error() {
        let valid = *b"4111111111111111";
        assert!(luhn(&valid));
        for at in 0..valid.len() {
            let mut wrong = valid;
            wrong[at] = if wrong[at] == b'9' { b'0' } else { wrong[at] + 1 };
            assert!(!luhn(&wrong), "digit {at}");
        }
        assert!(!luhn(b"") && !luhn(b"41 1"));
    }
}
