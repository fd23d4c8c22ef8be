//! IBANs: country, length and mod 97 must all hold.

use crate::check::iban;
use crate::detect::finding::{Evidence, Finding};
use crate::detect::view::View;
use crate::kind::Kind;

/// The IBAN whose check digits are at `digits`; groups may be separated by one space, `-` or no-break space.
pub(super) fn at(view: &View<'_>, digits: usize) -> Option<Finding> {
    let start = digits.checked_sub(2)?;
    let country: [u8; 2] = view.bytes.get(start..digits)?.try_into().ok()?;
    if !view.opens(start) || !country.iter().all(u8::is_ascii_alphabetic) {
        return None;
    }
    let wanted = iban::length(country)?;
    let mut compact = Vec::with_capacity(wanted);
    let mut at = start;
    while compact.len() < wanted {
        let byte = view.byte(at)?;
        if byte.is_ascii_alphanumeric() {
            compact.push(byte);
            at += 1;
        } else {
            at += gap(view.bytes.get(at..)?)?;
        }
    }
    (view.closes(at) && iban::mod97(&compact)).then_some(Finding {
        start,
        end: at,
        kind: Kind::Iban,
        rule: "iban",
        evidence: Evidence::Checksum,
    })
}

fn gap(rest: &[u8]) -> Option<usize> {
    let width =
        [" ", "-", ".", "\u{a0}", "\u{202f}"].iter().find(|text| rest.starts_with(text.as_bytes()))?.len();
    rest.get(width)?.is_ascii_alphanumeric().then_some(width)
}
