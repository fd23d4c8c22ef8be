//! Secrets that only their key gives away: `password: ...`, `"client_secret": "..."`, `--token ...`,
//! `Authorization: Bearer ...`, and the same in prose.

mod code;
mod keys;
mod layout;
mod login;
mod separator;
mod value;

pub(crate) use keys::{KEYS, Key};

use super::connection;
use super::cues::Cue;
use super::finding::{Evidence, Finding};
use super::view::{View, is_word};
use crate::check::secrecy;
use crate::kind::Kind;
use separator::{Form, separator, skip_scheme};
use value::{MAX_VALUE, Value, value};

/// Longest rest of an identifier around the key word, in bytes.
const MAX_REST: usize = 40;

/// The value behind the key word that `hit` found.
pub(super) fn after(view: &View<'_>, key: Key, hit: &super::gate::Hit) -> Option<Finding> {
    if key == Key::Login {
        return login::after(view, hit);
    }
    let (start, key_end) = (identifier_start(view, hit.start), identifier_end(view, hit.end));
    if key == Key::Pass && !is_alone(view, hit.start, hit.end) {
        return None;
    }
    let (behind, form) = separator(view, start, key_end)?;
    let mut value = value(view, start, skip_scheme(view, behind), form)?;
    if value.quoted {
        value.start = skip_scheme(view, value.start).min(value.end);
    }
    let phrase = is_phrase_key(view, start, key_end) && matches!(form, Form::Assigned | Form::Colon);
    let phrase = if phrase && !value.quoted { value::phrase(view, value.start) } else { None };
    if let Some(end) = phrase {
        value = Value { end, quoted: true, ..value };
    }
    let text = view.slice(value.start, value.end);
    if secrecy::is_stand_in(text) || text.eq_ignore_ascii_case(view.slice(start, key_end)) {
        return None;
    }
    if !value.quoted && code::is_code(view, start, key_end, &value, form) {
        return None;
    }
    let secret = match key {
        Key::Password => is_password(view, (start, key_end), &value, text, form),
        Key::Pass => form != Form::Verb && is_password(view, (start, key_end), &value, text, form),
        Key::Token => {
            let basic = login::is_announced(view, value.start) && login::is_basic(text);
            let random = secrecy::is_random(text) && form != Form::Apart;
            basic || (random && !(form == Form::Bare && text.len() < 20))
        }
        Key::Login => false,
    };
    if !secret {
        return None;
    }
    if key != Key::Token
        && form == Form::Assigned
        && let Some(connection) = connection::around(view, start, value.end)
    {
        return Some(connection);
    }
    let (kind, rule) = name(view, key, start, key_end, text);
    // What is longer than was looked at is hidden to its end.
    let longer = value.end - value.start >= MAX_VALUE;
    let end = if longer { view.run(value.end, usize::MAX, |b| !b.is_ascii_whitespace()) } else { value.end };
    Some(Finding { start: value.start, end, kind, rule, evidence: Evidence::Label })
}

fn identifier_start(view: &View<'_>, at: usize) -> usize {
    let start = view.run_back(at, MAX_REST, |b| is_word(b) || matches!(b, b'-' | b'.'));
    view.behind_escape(start, at)
}

fn identifier_end(view: &View<'_>, at: usize) -> usize {
    // A literal that ends with its separator is complete.
    if view.before(at) == Some(b'=') {
        return at - 1;
    }
    view.run(at, MAX_REST, |b| is_word(b) || b == b'-')
}

/// Whether the key word is a whole part of its identifier: `DB_PASS`, `pass`, not `passenger` or `bypass`.
fn is_alone(view: &View<'_>, start: usize, end: usize) -> bool {
    let letter = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    (!letter(view.before(start)) || view.edge(start))
        && !letter(view.byte(end))
        && view.byte(end) != Some(b'_')
}

fn is_phrase_key(view: &View<'_>, start: usize, key_end: usize) -> bool {
    let key = view.slice(start, key_end).to_ascii_lowercase();
    key.ends_with("phrase")
}

/// Parts of keys that hold a number about passwords.
const MEASURES: &[&str] = &[
    "len", "min", "max", "age", "expir", "days", "hours", "second", "timeout", "ttl", "count", "size",
    "iter", "attempt", "retr", "cost", "round", "version", "policy", "port", "limit",
];

fn is_password(view: &View<'_>, key: (usize, usize), value: &Value, text: &str, form: Form) -> bool {
    let len = text.chars().count();
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let name = view.slice(key.0, key.1).to_ascii_lowercase();
        if MEASURES.iter().any(|part| name.contains(part)) {
            return false;
        }
    }
    let closed_line =
        matches!(view.byte(value.end), None | Some(b'\n' | b'\r' | b'"' | b'\'' | b'}' | b',' | b'<'));
    match form {
        _ if len < 3 => false,
        Form::Assigned if value.quoted => !text.contains('\n'),
        Form::Assigned => closed_line || len >= 4,
        Form::Colon => {
            value.quoted || secrecy::is_chosen(text) || (len >= 4 && code::ends_pair(view, key.0, value.end))
        }
        Form::Verb => secrecy::is_chosen(text) || (value.quoted && len >= 4),
        Form::Bare => secrecy::is_strong(text) && !text.starts_with('-'),
        Form::Apart => {
            secrecy::is_strong(text) && !text.contains([':', '=', '(']) && code::ends_cell(view, value.end)
        }
    }
}

/// The kind and rule that the key and the value's shape speak for.
fn name(view: &View<'_>, key: Key, start: usize, key_end: usize, text: &str) -> (Kind, &'static str) {
    if key != Key::Token {
        return (Kind::Password, "keyed-password");
    }
    let label = view.slice(start, key_end).to_ascii_lowercase();
    let aws_shaped = text.len() == 40
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
        && !text.bytes().all(|b| b.is_ascii_hexdigit());
    let aws =
        label.contains("aws") || label.contains("secret_access_key") || label.contains("secretaccesskey");
    let near = label.contains("secret") && view.is_near(start, 160, Cue::Aws);
    if aws_shaped && (aws || near) {
        return (Kind::AwsSecretKey, "keyed-aws-secret");
    }
    // Azure's account keys are 64 bytes in base64.
    let azure = text.len() == 88 && text.ends_with("==");
    if azure || label.contains("api") || label.contains("account") {
        return (Kind::ApiKey, "keyed-api-key");
    }
    (Kind::GenericSecret, "keyed-secret")
}
