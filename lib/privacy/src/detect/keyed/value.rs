//! Where a value begins and ends.

use super::separator::Form;
use crate::detect::view::{View, is_word};

/// Longest value that is looked at, in bytes.
pub(super) const MAX_VALUE: usize = 1024;
/// How far behind a `<` the `>` of a tag or of a type's arguments may stand.
const MAX_TAG: usize = 64;

/// A value's place, and what delimits it.
pub(super) struct Value {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) quoted: bool,
}

/// The value that begins at `at` for the key at `key_start`.
pub(super) fn value(view: &View<'_>, key_start: usize, at: usize, form: Form) -> Option<Value> {
    let (open, escaped) = match (view.byte(at)?, view.byte(at + 1)) {
        (b'\\', Some(quote @ (b'"' | b'\''))) => (Some(quote), 2),
        (quote @ (b'"' | b'\'' | b'`'), _) => (Some(quote), 1),
        _ => (None, 0),
    };
    if let Some(quote) = open {
        let start = at + escaped;
        let end = closing(view, start, quote, escaped == 2, form)?;
        return (end > start).then_some(Value { start, end, quoted: true });
    }
    let mut end = unquoted(view, key_start, at);
    if let Some(sign) = view.before(key_start).filter(|b| matches!(b, b'?' | b'&' | b';')) {
        let stop = if sign == b';' { b';' } else { b'&' };
        end = view.run(at, end - at, |b| b != stop);
    } else if view.before(view.run_back(key_start, 4, |b| b == b' ')) == Some(b';') {
        end = view.run(at, end - at, |b| b != b';');
    }
    let end = trimmed(view, at, end);
    (end > at).then_some(Value { start: at, end, quoted: false })
}

/// The end of a value without quotes: a blank, a quote that is not inside a word, or a tag.
fn unquoted(view: &View<'_>, key_start: usize, at: usize) -> usize {
    let stops = |b: u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'`' | b'<');
    let element = view.before(key_start) == Some(b'<');
    let mut end = view.run(at, MAX_VALUE, |b| !stops(b));
    while end < at + MAX_VALUE && !element && is_inside(view, at, end) {
        end = view.run(end + 1, (at + MAX_VALUE).saturating_sub(end + 1), |b| !stops(b));
    }
    end
}

/// Whether the quote or `<` at `place` is a part of the value that begins at `at`: `O'Brien`, `Pa55<word`.
fn is_inside(view: &View<'_>, at: usize, place: usize) -> bool {
    let letter = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let between = place > at && letter(view.before(place)) && letter(view.byte(place + 1));
    match view.byte(place) {
        Some(b'\'' | b'"') => between,
        Some(b'<') => {
            let close = view.run(place, MAX_TAG, |b| !matches!(b, b'>' | b'\n'));
            // Letters in front of it are the name of a type.
            let name = view.slice(at, place).bytes().all(|b| b.is_ascii_alphabetic());
            between && !name && view.byte(close) != Some(b'>')
        }
        _ => false,
    }
}

/// Without the punctuation behind it. A bracket that the value opened itself is a part of it.
fn trimmed(view: &View<'_>, start: usize, end: usize) -> usize {
    let text = view.bytes.get(start..end).unwrap_or_default();
    let foreign = |open: u8| !text.contains(&open);
    let (round, square, curly, angle) = (foreign(b'('), foreign(b'['), foreign(b'{'), foreign(b'<'));
    let trailing = text.iter().rev().take_while(|b| match b {
        b')' => round,
        b']' => square,
        b'}' => curly,
        b'>' => angle,
        b => b".,;:\\|".contains(b),
    });
    end - trailing.count()
}

/// Where the quoted value ends: at its quote, or, when the line ends first, with the line.
fn closing(view: &View<'_>, start: usize, quote: u8, escaped: bool, form: Form) -> Option<usize> {
    let line = view.run(start, MAX_VALUE, |b| b != b'\n');
    let mut at = start;
    while at < line {
        match view.byte(at)? {
            b'\\' if escaped && view.byte(at + 1) == Some(quote) => return Some(at),
            b'\\' => at += 2,
            // `'O'Brien'`: between two letters it ends nothing.
            b'\'' if quote == b'\'' && at > start && is_inside(view, start, at) => at += 1,
            b if b == quote => return Some(at),
            _ => at += 1,
        }
    }
    // A quote that ends a text in code looks like one that opens a value, but punctuation follows it.
    let opens = matches!(form, Form::Assigned | Form::Colon) && view.byte(start).is_some_and(is_word);
    let line = view.run_back(line, line - start, |b| b.is_ascii_whitespace());
    Some(if opens { line } else { line.min(view.run(start, MAX_VALUE, |b| !b.is_ascii_whitespace())) })
}

/// Words that a sentence about a passphrase has, and passphrases of dictionary words hardly ever.
const FUNCTION_WORDS: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "be", "by", "can", "for", "from", "if", "in", "is", "it", "must",
    "not", "of", "on", "or", "the", "that", "this", "to", "used", "will", "with", "you", "your",
];

/// The end of a row of words from `at` that fills its line: a passphrase. At least three words.
pub(super) fn phrase(view: &View<'_>, at: usize) -> Option<usize> {
    let end = view.run(at, 256, |b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'-'));
    let end = view.run_back(end, end - at, |b| b == b' ');
    let ends = matches!(
        view.byte(view.run(end, 8, |b| b == b' ')),
        None | Some(b'\n' | b'\r' | b'"' | b'\'' | b'.')
    );
    let mut words = view.slice(at, end).split(' ');
    let count = words.clone().count();
    let plain =
        words.all(|word| !word.is_empty() && !FUNCTION_WORDS.contains(&word.to_ascii_lowercase().as_str()));
    (ends && count >= 3 && plain).then_some(end)
}
