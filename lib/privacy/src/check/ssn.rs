//! United States social security numbers: which areas, groups and serials are ever issued.

/// Whether nine `digits` can be a number: area not 000, 666 or 900 and above, group not 00, serial not 0000
/// (SSA, "Social Security Number Randomization"), and none of the numbers printed in advertisements.
pub(crate) fn is_ssn(digits: &[u8]) -> bool {
    const ADVERTISED: &[&[u8]] = &[b"078051120", b"219099999", b"123456789"];
    digits.len() == 9
        && digits.iter().all(u8::is_ascii_digit)
        && digits[0] != b'9'
        && !matches!(&digits[..3], b"000" | b"666")
        && &digits[3..5] != b"00"
        && &digits[5..] != b"0000"
        && !ADVERTISED.contains(&digits)
}

#[cfg(test)]
mod tests {
    use super::is_ssn;

    #[test]
    fn numbers_that_are_never_issued_are_refused() {
        assert!(is_ssn(b"536904399"));
        for number in
            ["000123456", "666123456", "900123456", "536004399", "536900000", "078051120", "53690439"]
        {
            assert!(!is_ssn(number.as_bytes()), "{number}");
        }
    }
}
