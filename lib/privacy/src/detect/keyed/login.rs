//! User and password in one value: `curl -u user:password`, `Authorization: Basic ...`.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::check::secrecy;
use crate::detect::finding::{Evidence, Finding};
use crate::detect::gate::Hit;
use crate::detect::view::View;
use crate::kind::Kind;

/// How far in front of the flag its program may stand, in bytes.
const REACH: usize = 256;
const MAX_LOGIN: usize = 256;

/// The password behind the flag that `hit` found, when a program that takes it so stands in front.
pub(super) fn after(view: &View<'_>, hit: &Hit) -> Option<Finding> {
    if view.before(hit.start).is_some_and(|b| !b.is_ascii_whitespace()) {
        return None;
    }
    let at = view.run(hit.end, 4, |b| b == b' ');
    let quote = view.byte(at).filter(|b| matches!(b, b'"' | b'\''));
    let start = at + usize::from(quote.is_some());
    let end = view.run(start, MAX_LOGIN, |b| match quote {
        Some(quote) => b != quote && b != b'\n',
        None => !b.is_ascii_whitespace() && !matches!(b, b'"' | b'\'' | b'`'),
    });
    let (user, password) = view.slice(start, end).split_once(':')?;
    let head = view.slice(hit.start.saturating_sub(REACH), hit.start);
    let takes_login = ["curl", "http ", "https ", "xh "].iter().any(|program| head.contains(program));
    let start = start + user.len() + 1;
    (takes_login && password.len() >= 3 && !secrecy::is_mask(password)).then_some(Finding {
        start,
        end,
        kind: Kind::Password,
        rule: "login-flag",
        evidence: Evidence::Label,
    })
}

/// Whether the name of the scheme stands in front of `at`.
pub(super) fn is_announced(view: &View<'_>, at: usize) -> bool {
    at.checked_sub(6).is_some_and(|start| view.slice(start, at).eq_ignore_ascii_case("Basic "))
}

/// Whether `text` is base64 of `user:password` (RFC 7617).
pub(super) fn is_basic(text: &str) -> bool {
    let decoded = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text));
    decoded.is_ok_and(|bytes| {
        let printable = bytes.iter().all(|b| !b.is_ascii_control());
        printable && bytes.iter().position(|b| *b == b':').is_some_and(|colon| colon + 1 < bytes.len())
    })
}
