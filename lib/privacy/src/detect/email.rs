//! E-mail addresses, outwards from an `@`.

use super::finding::{Evidence, Finding};
use super::url;
use super::view::View;
use crate::kind::Kind;

/// RFC 5321: octets of a local part and of a domain.
const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 255;
/// Longest user and password of a URL that is looked at.
const MAX_USERINFO: usize = 256;
/// Last labels that are file names (`icon@2x.png`) rather than domains.
const FILE_ENDINGS: &[&str] =
    &["png", "jpg", "jpeg", "gif", "svg", "webp", "css", "html", "json", "yaml", "yml", "toml"];

/// How an `@` is written where it may not stand: in URLs, HTML and JSON.
const ENCODED: &[&str] = &["%40", "&#64;", "&#x40;", "&commat;", r"\u0040"];

/// The address around the encoded `@` that may begin at `at`.
pub(super) fn around_encoded(view: &View<'_>, at: usize) -> Option<Finding> {
    let rest = view.bytes.get(at..)?;
    let sign = ENCODED
        .iter()
        .find(|sign| rest.get(..sign.len()).is_some_and(|head| head.eq_ignore_ascii_case(sign.as_bytes())))?;
    around(view, at, sign.len())
}

/// The address around the `@` at `at`, which takes `width` bytes.
pub(super) fn around(view: &View<'_>, at: usize, width: usize) -> Option<Finding> {
    let start = local_start(view, at)?;
    let end = domain_end(view, at + width)?;
    // `git@host:path` is how repositories are written; it names a service, not a person.
    if view.slice(start, at) == "git" || (width == 1 && ends_userinfo(view, at)) {
        return None;
    }
    Some(Finding { start, end, kind: Kind::Email, rule: "email", evidence: Evidence::Shape })
}

/// Whether the `@` ends `user:password` of a URL, which the URL rule hides without the host behind it.
fn ends_userinfo(view: &View<'_>, at: usize) -> bool {
    let start = view.run_back(at, MAX_USERINFO, |b| {
        b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'@')
    });
    let url = view.slice(start, at + 1);
    url.rsplit_once("://").is_some_and(|(_, rest)| {
        let userinfo = url::userinfo_len(rest.as_bytes());
        userinfo.is_some_and(|len| len + 1 == rest.len() && rest[..len].contains(':'))
    })
}

fn local_start(view: &View<'_>, at: usize) -> Option<usize> {
    let first = at.saturating_sub(MAX_LOCAL);
    let mut start = at;
    while start > first {
        let byte = view.bytes[start - 1];
        // The end of `\n`; that of `%2B` may belong to the address.
        if view.edge(start) && !view.slice(start.saturating_sub(3), start).starts_with('%') {
            break;
        }
        if byte.is_ascii_alphanumeric() || b"._+-%'".contains(&byte) {
            start -= 1;
        } else if !byte.is_ascii() {
            // One character at a time: letters of other alphabets belong to it, punctuation does not.
            let (begin, letter) = character_before(view, start)?;
            if begin < first || !letter.is_alphanumeric() || is_cjk(letter) {
                break;
            }
            start = begin;
        } else {
            break;
        }
    }
    let leading = view.run(start, at - start, |b| b"._-'%+".contains(&b));
    (leading < at && view.before(at) != Some(b'.')).then_some(leading)
}

fn character_before(view: &View<'_>, at: usize) -> Option<(usize, char)> {
    let letter = view.text.get(..at)?.chars().next_back()?;
    Some((at - letter.len_utf8(), letter))
}

/// Scripts written without spaces: the sentence in front of an address would be taken for its local part.
fn is_cjk(letter: char) -> bool {
    matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{ff00}'..='\u{ffef}')
}

fn domain_end(view: &View<'_>, start: usize) -> Option<usize> {
    let run = view
        .run(start, MAX_DOMAIN, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.') || !b.is_ascii());
    let domain = view.slice(start, run);
    // The longest beginning that is a host name: dots may end a sentence, other scripts may follow directly.
    let stop =
        domain.find(|c: char| !c.is_ascii() && (is_cjk(c) || !c.is_alphanumeric())).unwrap_or(domain.len());
    let mut domain = domain.get(..stop)?;
    loop {
        domain = domain.trim_end_matches(['.', '-']);
        let (host, last) = domain.rsplit_once('.')?;
        if is_top_level(last) && host.split('.').all(|label| !label.is_empty() && !label.starts_with('-')) {
            return Some(start + domain.len());
        }
        // `a@b.com.Then` and `a@b.com-1`: give up the last label and try again.
        if !host.contains('.') || last.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        domain = host;
    }
}

fn is_top_level(label: &str) -> bool {
    let letters = label.chars().all(char::is_alphabetic) || label.starts_with("xn--");
    letters && (2..=24).contains(&label.len()) && !FILE_ENDINGS.contains(&label.to_ascii_lowercase().as_str())
}
