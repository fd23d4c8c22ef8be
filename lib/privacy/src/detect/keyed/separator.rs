//! What stands between a key and its value.

use super::layout;
use crate::detect::view::View;

/// How the value follows the key, which decides what may be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `=`, `=>`, `:=`, a command line flag, an element of XML.
    Assigned,
    /// `:` and blanks, which prose uses too.
    Colon,
    /// "is", "lautet", ...
    Verb,
    /// Only blanks.
    Bare,
    /// A line end or the border of a table's cell.
    Apart,
}

/// Where the value may begin, and how it follows.
pub(super) fn separator(view: &View<'_>, key_start: usize, key_end: usize) -> Option<(usize, Form)> {
    let quote = view.run(key_end, 3, |b| matches!(b, b'"' | b'\'' | b']' | b'\\' | b'`' | b'*' | b')'));
    let blank = |b: u8| matches!(b, b' ' | b'\t');
    let sign = view.run(quote, 32, blank);
    let rest = view.bytes.get(sign..)?;
    if let Some(found) = layout::pair(view, key_end, quote).or_else(|| layout::cell(view, key_start, sign)) {
        return Some(found);
    }
    if rest.starts_with(b"==") || rest.starts_with(b"=~") {
        return None;
    }
    for (text, form) in [
        ("=>", Form::Assigned),
        (":=", Form::Assigned),
        ("?=", Form::Assigned),
        ("=", Form::Assigned),
        ("::", Form::Bare),
        (":", Form::Colon),
        ("：", Form::Colon),
        (">", Form::Assigned),
        ("は", Form::Verb),
        ("->", Form::Assigned),
        ("%3D", Form::Assigned),
        ("%3d", Form::Assigned),
    ] {
        if rest.starts_with(text.as_bytes()) {
            if form == Form::Bare || (text == ">" && quote != key_end) {
                return None;
            }
            // Quoted keys with a colon are JSON.
            let json = form == Form::Colon && quote > key_end;
            let form = if json { Form::Assigned } else { form };
            let at = view.run(sign + text.len(), 32, blank);
            let below = if text == ":" { layout::below(view, at) } else { None };
            return Some(below.unwrap_or((at, form)));
        }
    }
    if sign == quote {
        return None;
    }
    let flag =
        view.slice(key_start, key_end).starts_with("--") || view.slice(key_start, key_end).ends_with("-p");
    if flag {
        return Some((sign, Form::Assigned));
    }
    let word_end = view.run(sign, 12, |b| !blank(b));
    let after = view.run(word_end, 4, |b| blank(b) || b == b':');
    const VERBS: &[&str] = &[
        "is", "was", "ist", "lautet", "war", "est", "es", "era", "è", "é", "to", "to:", "is:", "jest", "das",
        "son",
    ];
    if VERBS.contains(&view.slice(sign, word_end).to_lowercase().as_str()) && after > word_end {
        return Some((after, Form::Verb));
    }
    // "das Passwort für den Server lautet X": one short phrase may come between.
    later_verb(view, sign).or(Some((sign, Form::Bare)))
}

/// A verb a few words on, on the same line and in the same sentence.
fn later_verb(view: &View<'_>, from: usize) -> Option<(usize, Form)> {
    const REACH: usize = 48;
    let end = view.run(from, REACH, |b| !matches!(b, b'\n' | b'.' | b',' | b';' | b'"' | b'='));
    let phrase = view.slice(from, end);
    [" is ", " lautet ", " ist ", " est ", " es ", " is: ", ": ", " è ", " é ", " jest "]
        .iter()
        .filter_map(|verb| phrase.find(verb).map(|at| (from + at + verb.len(), Form::Verb)))
        .min_by_key(|(at, _)| *at)
}

/// Skips the name of an HTTP authentication scheme.
pub(super) fn skip_scheme(view: &View<'_>, at: usize) -> usize {
    let rest = view.bytes.get(at..).unwrap_or_default();
    for scheme in ["Bearer ", "Basic ", "Token ", "ApiKey ", "Digest "] {
        if rest.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme.as_bytes())) {
            return at + scheme.len();
        }
    }
    at
}
