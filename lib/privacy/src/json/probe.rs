//! What the detectors find in one value of a JSON text, alone and behind the names that announce it.

use super::scan::Sort;
use crate::detect::{Detector, Finding, resolve};

/// The end of a longer name says as much as the whole.
const MAX_LABEL: usize = 80;
/// Shorter values hide nothing.
const SHORTEST: usize = 3;
/// A number written with more digits than this has no other way to be written out.
const MAX_DIGITS: usize = 40;

/// Disjoint findings in `text`, ascending. A number is found as a whole or not at all.
pub(super) fn find(detector: &Detector, text: &str, sort: Sort, labels: &[&str]) -> Vec<Finding> {
    if text.len() < SHORTEST {
        return Vec::new();
    }
    if sort == Sort::Number {
        let written_out = written_out(text);
        let ways = [Some(text), written_out.as_deref()];
        let found = ways.into_iter().flatten().find_map(|digits| in_context(detector, digits, labels).pop());
        return found.map(|finding| Finding { start: 0, end: text.len(), ..finding }).into_iter().collect();
    }
    in_context(detector, text, labels)
}

fn in_context(detector: &Detector, text: &str, labels: &[&str]) -> Vec<Finding> {
    let mut found = detector.find(text);
    if !labels.is_empty() {
        let flat = flat(text);
        for label in labels {
            let label = self::flat(label);
            let label = &label[label.ceil_char_boundary(label.len().saturating_sub(MAX_LABEL))..];
            // As a member of an object, where the detectors take names apart as programs write them ...
            behind(detector, &format!("\"{label}\": \""), &flat, "\"", &mut found);
            // ... and in words, as people write them.
            behind(detector, &format!("{}: ", in_words(label)), &flat, "", &mut found);
        }
    }
    resolve(text, found)
}

/// Adds what is found in `text` when `head` stands in front of it and `tail` behind.
fn behind(detector: &Detector, head: &str, text: &str, tail: &str, found: &mut Vec<Finding>) {
    let probe = format!("{head}{text}{tail}");
    for finding in detector.find(&probe) {
        let start = finding.start.saturating_sub(head.len());
        let end = finding.end.saturating_sub(head.len()).min(text.len());
        // What a key announces is secret to the end of its string, wherever a detector would see its end in prose.
        let end = if finding.rule.starts_with("keyed-") && end > 0 { text.len() } else { end };
        if start < end {
            found.push(Finding { start, end, ..finding });
        }
    }
}

/// Without what would end a value in prose or in code; of the same length, and with the same character boundaries.
fn flat(text: &str) -> String {
    let plain = |c| match c {
        '"' => '\'',
        '\\' => '/',
        '\n' | '\r' => ' ',
        c => c,
    };
    text.chars().map(plain).collect()
}

/// `passportNumber`, `passport_number` and `PASSPORT-NUMBER` as "passport number".
fn in_words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 8);
    let mut small = false;
    for c in name.chars() {
        if small && c.is_uppercase() {
            words.push(' ');
        }
        small = c.is_lowercase() || c.is_ascii_digit();
        if matches!(c, '_' | '-') {
            words.push(' ');
        } else {
            words.extend(c.to_lowercase());
        }
    }
    words
}

/// The digits of a whole number that is written with a fraction or an exponent: `4.111e3` is 4111.
fn written_out(number: &str) -> Option<String> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.trim_start_matches('-').split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let places: usize = exponent.trim_start_matches('+').parse().ok().filter(|n| *n <= MAX_DIGITS)?;
    let zeros = places.checked_sub(fraction.len())?;
    let digits = format!("{}{fraction}{}", whole.trim_start_matches('-'), "0".repeat(zeros));
    let digits = digits.trim_start_matches('0');
    (digits.len() <= MAX_DIGITS && digits != number).then(|| digits.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_into_words() {
        for name in ["passportNumber", "passport_number", "PASSPORT-NUMBER", "passport number"] {
            assert_eq!(in_words(name), "passport number");
        }
    }

    #[test]
    fn a_whole_number_is_the_same_however_it_is_written() {
        for (number, digits) in [
            ("4111111111111111.0", Some("4111111111111111")),
            ("4.111111111111111e15", Some("4111111111111111")),
            ("4.111111111111111E+15", Some("4111111111111111")),
            ("41111111111111110e0", Some("41111111111111110")),
            ("-12.0", Some("12")),
            ("12", None),
            ("1.5", None),
            ("1e999999999999999999999", None),
            ("12e-1", None),
        ] {
            assert_eq!(written_out(number).as_deref(), digits, "{number}");
        }
    }

    #[test]
    fn a_secret_is_found_behind_its_key_to_the_end_of_its_string() {
        let detector = Detector::standard().unwrap();
        for (labels, text) in [
            (&["password"][..], "cor\"rect \\horse\nbattery"),
            (&["dbPassword"], "hunter2"),
            (&["value", "client_secret"], "aB3dE5fG7hI9kL1mN3pQ"),
            (&["passportNumber"], "K1173953"),
            (&["date_of_birth"], "1979-03-14"),
        ] {
            let found = find(&detector, text, Sort::Text, labels);
            let whole = found.first().is_some_and(|f| f.start == 0 && f.end == text.len());
            assert!(whole && found.len() == 1, "{labels:?} {text:?}: {found:?}");
        }
        assert!(find(&detector, "string", Sort::Text, &["type", "password"]).is_empty());
    }

    #[test]
    fn a_number_is_found_as_a_whole() {
        let detector = Detector::standard().unwrap();
        for (labels, text) in [
            (&[][..], "4111111111111111"),
            (&["x"], "4.111111111111111e15"),
            (&["password"], "20241979"),
            (&["latitude"], "52.520008"),
        ] {
            let found = find(&detector, text, Sort::Number, labels);
            assert_eq!(
                found.iter().map(|f| (f.start, f.end)).collect::<Vec<_>>(),
                [(0, text.len())],
                "{text}"
            );
        }
        assert!(find(&detector, "1700000000", Sort::Number, &["created"]).is_empty());
    }
}
