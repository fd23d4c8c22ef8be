//! Is the unquoted text behind a key a value, or the code of a program?

use super::separator::Form;
use super::value::Value;
use crate::check::secrecy;
use crate::detect::view::View;

/// How far the beginning of a line or of a brace is looked for, in bytes.
const REACH: usize = 200;

/// Whether an unquoted value is a name or a type in code: `self.password`, `new_password`, `&str`, `a::B`, or the
/// first word of an expression. What a key in capitals is set to (`DB_PASS=blue_monkey`) is no code.
pub(super) fn is_code(view: &View<'_>, key_start: usize, key_end: usize, value: &Value, form: Form) -> bool {
    let (text, key) = (view.slice(value.start, value.end), view.slice(key_start, key_end));
    let name = text.trim_start_matches(['&', '*', '[', '(', '!']);
    let sigil = name.len() < text.len();
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'.' | b':'));
    let shouted = !key.bytes().any(|b| b.is_ascii_lowercase());
    let expression = view.before(value.start) == Some(b' ')
        && matches!(view.byte(value.end), Some(b' ' | b'<' | b'(' | b'{'))
        && !key.starts_with('-')
        && !(form == Form::Colon && ends_pair(view, key_start, value.end));
    let set = named && is_setting(view, key_start, value, form);
    text.contains("::")
        || (sigil && (named || secrecy::is_stand_in(name)))
        || (named && view.slice(value.end, value.end + 2) == " =")
        || (named && !shouted && !set && (expression || name.contains(['_', ':']) || is_lookup(name)))
}

/// `args.password`, `cfg.secret`: the last part says what it is.
fn is_lookup(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    name.contains('.')
        && ["pass", "pwd", "secret", "token", "value", "text"].iter().any(|word| last.contains(word))
}

/// `db_password=blue_monkey` as settings are written: nothing but the pair on its line, or one pair in a row of them;
/// no blank around the `=`. What names a secret itself (`new_password`) is a name.
fn is_setting(view: &View<'_>, key_start: usize, value: &Value, form: Form) -> bool {
    let head = view.run_back(key_start, 8, |b| b != b'\n');
    let begins = head == 0 || view.before(head) == Some(b'\n');
    let lead = view.slice(head, key_start);
    let text = view.slice(value.start, value.end).to_ascii_lowercase();
    let named = ["pass", "pwd", "secret", "token", "::"].iter().any(|word| text.contains(word));
    let tight = view.before(value.start) == Some(b'=');
    let alone = match form {
        Form::Colon => begins && lead.trim().is_empty(),
        _ => tight && begins && matches!(lead, "" | "export " | "set " | "setx "),
    };
    let blank = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_whitespace());
    let in_row = tight && follows_pair(view, key_start) && blank(view.byte(value.end));
    !named && ((alone && ends_line(view, value.end)) || in_row)
}

/// Whether `key=value` and one blank stand in front of the key, as in `user=a password=...`.
fn follows_pair(view: &View<'_>, key_start: usize) -> bool {
    let Some(end) = key_start.checked_sub(1).filter(|at| view.byte(*at) == Some(b' ')) else { return false };
    let start = view.run_back(end, 64, |b| b.is_ascii_graphic());
    let pair = view.slice(start, end);
    let (key, value) = pair.split_once('=').unwrap_or_default();
    !key.is_empty() && !value.is_empty() && !pair.contains(['(', ',', '<', '{'])
}

/// Whether nothing but blanks or a comment of `#` follows on the line.
fn ends_line(view: &View<'_>, end: usize) -> bool {
    let next = view.run(end, 64, |b| matches!(b, b' ' | b'\t'));
    match view.byte(next) {
        None | Some(b'\n' | b'\r') => true,
        Some(b'#') => next > end,
        _ => false,
    }
}

/// Whether the cell of a table or the line ends at `end`.
pub(super) fn ends_cell(view: &View<'_>, end: usize) -> bool {
    let next = view.run(end, 64, |b| matches!(b, b' ' | b'\t' | b'`'));
    ends_line(view, end) || view.byte(next) == Some(b'|')
}

/// Whether a value of letters that ends at `end`, behind the key at `key_start` and a colon, is one of data or of
/// prose: a type or a variable in code is followed by a comma or bracket too, but stands in a call or a body.
pub(super) fn ends_pair(view: &View<'_>, key_start: usize, end: usize) -> bool {
    match view.byte(end) {
        Some(b'"' | b'\'') => true,
        Some(b'.') => view.byte(end + 1).is_none_or(|b| b.is_ascii_whitespace()),
        Some(b')') => in_parenthesis(view, key_start),
        Some(b'}') => in_flow(view, key_start) == Some(true),
        Some(b',') => in_flow(view, key_start).unwrap_or_else(|| another_pair(view, key_start, end + 1)),
        _ => ends_line(view, end),
    }
}

/// Whether the key opens a parenthesis of prose, with a blank or nothing in front of it.
fn in_parenthesis(view: &View<'_>, key_start: usize) -> bool {
    let Some(open) = key_start.checked_sub(1) else { return false };
    view.byte(open) == Some(b'(') && view.before(open).is_none_or(|b| b.is_ascii_whitespace())
}

/// Whether the brace around the key, if one is open on its line, holds data: nothing, a sign or a word in lower
/// case stands in front of it. The fields of a type follow its name.
fn in_flow(view: &View<'_>, key_start: usize) -> Option<bool> {
    let line = view.run_back(key_start, REACH, |b| b != b'\n');
    let open = line + view.bytes.get(line..key_start)?.iter().rposition(|b| matches!(b, b'{' | b'}'))?;
    if view.byte(open) == Some(b'}') {
        return None;
    }
    let before = view.run_back(open, 4, |b| b == b' ');
    let word = view.run_back(before, 64, |b| b.is_ascii_alphanumeric() || b == b'_');
    let typed = view.byte(word).is_some_and(|b| b.is_ascii_uppercase()) && word < before;
    Some(!typed && !matches!(view.before(before), Some(b'(' | b')' | b'>' | b'=' | b'|')))
}

/// Whether another `key: value` follows on a line without brackets, as no list of parameters is.
fn another_pair(view: &View<'_>, key_start: usize, at: usize) -> bool {
    let line = view.run_back(key_start, REACH, |b| b != b'\n');
    let bracket =
        view.bytes.get(line..key_start).is_some_and(|head| head.iter().any(|b| b"({[<|".contains(b)));
    let key = view.run(at, 2, |b| b == b' ');
    let sign = view.run(key, 40, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    !bracket && key > at && sign > key && matches!(view.byte(sign), Some(b':' | b'='))
}
