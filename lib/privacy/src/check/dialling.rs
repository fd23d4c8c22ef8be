//! Country calling codes (ITU-T E.164) and the plausible lengths behind them.

/// Codes of two digits; 1 and 7 have one, all others three.
const TWO_DIGITS: &[u8] = &[
    20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56, 57, 58,
    60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98,
];
/// Tens of the three-digit codes in use (210 to 219 is 21, ...).
const THREE_DIGIT_TENS: &[u8] =
    &[21, 22, 23, 24, 25, 26, 29, 35, 37, 38, 42, 50, 59, 67, 68, 69, 80, 85, 87, 88, 96, 97, 99];

/// Whether `digits` (no `+`, no `00`) is an international number: a code in use, then a number that is long
/// enough and does not pass the 15 digits of E.164.
pub(crate) fn is_international(digits: &[u8]) -> bool {
    let [a, b, ..] = digits else { return false };
    if !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let tens = (a - b'0') * 10 + (b - b'0');
    let code = match a {
        b'1' | b'7' => 1,
        _ if TWO_DIGITS.contains(&tens) => 2,
        _ if digits.starts_with(b"999") || digits.starts_with(b"990") => return false,
        _ if THREE_DIGIT_TENS.contains(&tens) => 3,
        _ => return false,
    };
    let (shortest, longest) = if code == 1 { (11, 11) } else { (code + 5, 15) };
    (shortest..=longest).contains(&digits.len())
}

/// Whether ten digits are a North American number: area and exchange start with 2 to 9, and the area is no
/// service code (N11).
pub(crate) fn is_north_american(digits: &[u8]) -> bool {
    digits.len() == 10
        && digits.iter().all(u8::is_ascii_digit)
        && digits[0] >= b'2'
        && digits[3] >= b'2'
        && &digits[1..3] != b"11"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_in_use_with_a_plausible_length_are_international() {
        for number in ["12015550123", "493012345", "35312345678", "8613812345678"] {
            assert!(is_international(number.as_bytes()), "{number}");
        }
        for number in ["", "4", "0123456789", "1201555012", "2812345678", "4930", "4930123456789012"] {
            assert!(!is_international(number.as_bytes()), "{number}");
        }
    }

    #[test]
    fn north_american_numbers_need_a_real_area_and_exchange() {
        assert!(is_north_american(b"2015550123"));
        for number in ["1015550123", "2011550123", "9115550123", "201555012"] {
            assert!(!is_north_american(number.as_bytes()), "{number}");
        }
    }
}
