//! Vehicle identification numbers (ISO 3779).

/// Seventeen letters and digits without I, O and Q, with both letters and digits.
pub(crate) fn is_vin(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 17
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() && !matches!(b.to_ascii_uppercase(), b'I' | b'O' | b'Q'))
        && bytes.iter().any(u8::is_ascii_digit)
        && bytes.iter().any(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::is_vin;

    #[test]
    fn letters_that_are_never_used_and_other_lengths_are_refused() {
        assert!(is_vin("1M8GDM9AXKP042788"));
        for text in ["1M8GDM9AXKP04278", "1M8GDM9AXKP04278O", "11111111111111111", ""] {
            assert!(!is_vin(text), "{text}");
        }
    }
}
