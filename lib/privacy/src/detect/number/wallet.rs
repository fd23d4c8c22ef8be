//! Addresses of wallets in base58.

use crate::detect::finding::{Evidence, Finding};
use crate::detect::view::View;
use crate::kind::Kind;

/// Lengths of base58check addresses, of Solana's and of Monero's.
const BITCOIN: std::ops::RangeInclusive<usize> = 26..=36;
const SOLANA: std::ops::RangeInclusive<usize> = 43..=44;
const MONERO: std::ops::RangeInclusive<usize> = 90..=106;
/// How far behind a word like "wallet" an address may stand, in bytes.
const REACH: usize = 48;

/// An address that starts with a digit at `at`, as Bitcoin's and Monero's do.
pub(super) fn base58(view: &View<'_>, at: usize) -> Option<Finding> {
    let lengths = match view.byte(at)? {
        b'1' | b'3' => BITCOIN,
        b'4' | b'8' => MONERO,
        _ => return None,
    };
    address(view, at).filter(|finding| lengths.contains(&finding.len()))
}

/// The address that follows a word like "wallet" which ends at `end`.
pub(in crate::detect) fn after(view: &View<'_>, end: usize) -> Option<Finding> {
    let mut at = end;
    while at < end + REACH {
        at = view.run(at, REACH, |b| !b.is_ascii_alphanumeric());
        if let Some(finding) = address(view, at) {
            return Some(finding);
        }
        at = view.run(at, REACH, |b| b.is_ascii_alphanumeric()).max(at + 1);
    }
    None
}

/// A whole word of base58 with the length of an address and all three classes of letters and digits.
fn address(view: &View<'_>, start: usize) -> Option<Finding> {
    let end = view.run(start, 128, |b| b.is_ascii_alphanumeric() && !matches!(b, b'0' | b'O' | b'I' | b'l'));
    let text = view.bytes.get(start..end)?;
    let mixed = text.iter().any(u8::is_ascii_digit)
        && text.iter().any(u8::is_ascii_uppercase)
        && text.iter().any(u8::is_ascii_lowercase);
    let length =
        BITCOIN.contains(&text.len()) || SOLANA.contains(&text.len()) || MONERO.contains(&text.len());
    (mixed && length && view.opens(start) && view.closes(end)).then_some(Finding {
        start,
        end,
        kind: Kind::CryptoWallet,
        rule: "base58-address",
        evidence: Evidence::Shape,
    })
}
