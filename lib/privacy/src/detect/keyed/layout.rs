//! Layouts that set a value apart from its key: the next line, a pair of name and value, a cell of a table.

use super::separator::Form;
use crate::detect::view::View;

/// Bytes of line ends and indentation between a key and its value.
const MAX_GAP: usize = 64;

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The value on the line below the `:` in front of `at`, also behind the `|` or `>` of a YAML block.
pub(super) fn below(view: &View<'_>, at: usize) -> Option<(usize, Form)> {
    let marks = view.run(at, 2, |b| matches!(b, b'|' | b'>' | b'-' | b'+'));
    let block = matches!(view.byte(at), Some(b'|' | b'>'));
    let line = view.run(if block { marks } else { at }, 8, is_blank);
    let next = view.run(line, 2, |b| matches!(b, b'\r' | b'\n'));
    let value = view.run(next, MAX_GAP, is_blank);
    // Between two keys of YAML a value is missing; a block is always one.
    (next > line && view.byte(value).is_some_and(|b| !b.is_ascii_whitespace()))
        .then_some((value, Form::Apart))
}

/// `"name": "DB_PASSWORD", "value": ...`, `key="Password" value=...`, `name: DB_PASSWORD` with `value:` below it.
pub(super) fn pair(view: &View<'_>, key_end: usize, quote_end: usize) -> Option<(usize, Form)> {
    let gap = view.run(quote_end, MAX_GAP, |b| b.is_ascii_whitespace() || b == b',');
    let apart = quote_end > key_end || view.slice(quote_end, gap).contains('\n');
    if gap == quote_end || !apart {
        return None;
    }
    let word = view.run(gap, 2, |b| matches!(b, b'"' | b'\'' | b'\\'));
    if !view.bytes.get(word..word + 5)?.eq_ignore_ascii_case(b"value") {
        return None;
    }
    let quote = view.run(word + 5, 2, |b| matches!(b, b'"' | b'\'' | b'\\'));
    let sign = view.run(quote, 8, is_blank);
    let assigns = matches!(view.byte(sign), Some(b':' | b'=')) && view.byte(sign + 1) != Some(b'=');
    assigns.then(|| (view.run(sign + 1, 8, is_blank), Form::Assigned))
}

/// The next cell of a table's row, `| password | ... |`, when the key is all of its cell.
pub(super) fn cell(view: &View<'_>, key_start: usize, border: usize) -> Option<(usize, Form)> {
    let first = view.run_back(key_start, 32, |b| is_blank(b) || matches!(b, b'`' | b'*'));
    let framed = view.before(first) == Some(b'|') && view.byte(border) == Some(b'|');
    framed.then(|| (view.run(border + 1, 32, |b| is_blank(b) || b == b'`'), Form::Apart))
}
