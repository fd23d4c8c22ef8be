//! Secrets that only their key gives away: `password: ...`, `"client_secret": "..."`, `--token ...`,
//! `Authorization: Bearer ...`, and the same in prose.

use super::connection;
use super::cues::Cue;
use super::finding::{Evidence, Finding};
use super::view::{View, is_word};
use crate::check::secrecy;
use crate::kind::Kind;

/// What a key promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// Chosen by a person: whatever stands there is secret.
    Password,
    /// An abbreviation of password that is part of other words too: only alone, and only assigned.
    Pass,
    /// Made by a machine: only what looks random is secret.
    Token,
}

/// Key words, matched without case anywhere inside an identifier.
pub(crate) const KEYS: &[(&str, Key)] = &[
    ("password", Key::Password),
    ("passwd", Key::Password),
    ("pwd", Key::Password),
    ("passphrase", Key::Password),
    ("pass phrase", Key::Password),
    ("pass_phrase", Key::Password),
    ("passcode", Key::Password),
    ("pass word", Key::Password),
    ("passwort", Key::Password),
    ("kennwort", Key::Password),
    ("mot de passe", Key::Password),
    ("mdp", Key::Pass),
    ("contraseña", Key::Password),
    ("contrasena", Key::Password),
    ("clave", Key::Pass),
    ("senha", Key::Password),
    ("wachtwoord", Key::Password),
    ("hasło", Key::Password),
    ("haslo", Key::Password),
    ("пароль", Key::Password),
    ("パスワード", Key::Password),
    ("密码", Key::Password),
    ("pass", Key::Pass),
    ("pw", Key::Pass),
    ("sshpass -p", Key::Pass),
    ("psk", Key::Pass),
    ("secret", Key::Token),
    ("token", Key::Token),
    ("api_key", Key::Token),
    ("apikey", Key::Token),
    ("api-key", Key::Token),
    ("api key", Key::Token),
    ("access_key", Key::Token),
    ("accesskey", Key::Token),
    ("access-key", Key::Token),
    ("access key", Key::Token),
    ("auth_key", Key::Token),
    ("authkey", Key::Token),
    ("auth-key", Key::Token),
    ("authorization", Key::Token),
    ("bearer", Key::Token),
    ("account_key", Key::Token),
    ("accountkey", Key::Token),
    ("storage_key", Key::Token),
    ("shared_key", Key::Token),
    ("sharedaccesskey", Key::Token),
    ("signing_key", Key::Token),
    ("signingkey", Key::Token),
    ("signing-key", Key::Token),
    ("encryption_key", Key::Token),
    ("encryptionkey", Key::Token),
    ("private_key", Key::Token),
    ("privatekey", Key::Token),
    ("master_key", Key::Token),
    ("masterkey", Key::Token),
    ("credential", Key::Token),
    ("license_key", Key::Token),
    ("session_id", Key::Token),
    ("sessionid", Key::Token),
    ("jsessionid", Key::Token),
    ("phpsessid", Key::Token),
    ("signature=", Key::Token),
    ("sig=", Key::Token),
    ("webhook_key", Key::Token),
    ("deploy_key", Key::Token),
    ("app_key", Key::Token),
    ("appkey", Key::Token),
    ("_key", Key::Token),
    ("my key", Key::Token),
    ("auth", Key::Token),
];

/// Longest rest of an identifier behind the key word, and longest value, in bytes.
const MAX_REST: usize = 40;
const MAX_VALUE: usize = 1024;

/// How the value follows the key, which decides what may be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `=`, `=>`, `:=`, a command line flag, an element of XML.
    Assigned,
    /// `:` and blanks, which prose uses too.
    Colon,
    /// "is", "lautet", ...
    Verb,
    /// Only blanks.
    Bare,
}

/// The value behind the key word that `hit` found.
pub(super) fn after(view: &View<'_>, key: Key, hit: &super::gate::Hit) -> Option<Finding> {
    let (start, key_end) = (identifier_start(view, hit.start), identifier_end(view, hit.end));
    if key == Key::Pass && !is_alone(view, hit.start, hit.end) {
        return None;
    }
    let (at, form) = separator(view, start, key_end)?;
    let at = skip_scheme(view, at);
    let value = value(view, start, at)?;
    let text = view.slice(value.start, value.end);
    if secrecy::is_stand_in(text) || text.eq_ignore_ascii_case(view.slice(start, key_end)) {
        return None;
    }
    if !value.quoted && is_code(view, start, key_end, &value) {
        return None;
    }
    let secret = match key {
        Key::Password => is_password(view, &value, text, form),
        Key::Pass => form != Form::Verb && is_password(view, &value, text, form),
        Key::Token => secrecy::is_random(text) && !(form == Form::Bare && text.len() < 20),
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
    view.run_back(at, MAX_REST, |b| is_word(b) || matches!(b, b'-' | b'.'))
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
    !letter(view.before(start)) && !letter(view.byte(end)) && view.byte(end) != Some(b'_')
}

/// Where the value may begin, and how it follows.
fn separator(view: &View<'_>, key_start: usize, key_end: usize) -> Option<(usize, Form)> {
    let quote = view.run(key_end, 3, |b| matches!(b, b'"' | b'\'' | b']' | b'\\' | b'`' | b'*' | b')'));
    let blank = |b: u8| matches!(b, b' ' | b'\t');
    let sign = view.run(quote, 32, blank);
    let rest = view.bytes.get(sign..)?;
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
    ] {
        if rest.starts_with(text.as_bytes()) {
            if form == Form::Bare || (text == ">" && quote != key_end) {
                return None;
            }
            // Quoted keys with a colon are JSON.
            let json = form == Form::Colon && quote > key_end;
            let form = if json { Form::Assigned } else { form };
            return Some((view.run(sign + text.len(), 32, blank), form));
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
fn skip_scheme(view: &View<'_>, at: usize) -> usize {
    let rest = view.bytes.get(at..).unwrap_or_default();
    for scheme in ["Bearer ", "Basic ", "Token ", "ApiKey ", "Digest "] {
        if rest.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme.as_bytes())) {
            return at + scheme.len();
        }
    }
    at
}

/// A value's place, and whether quotes delimit it.
struct Value {
    start: usize,
    end: usize,
    quoted: bool,
}

fn value(view: &View<'_>, key_start: usize, at: usize) -> Option<Value> {
    let (open, escaped) = match (view.byte(at)?, view.byte(at + 1)) {
        (b'\\', Some(quote @ (b'"' | b'\''))) => (Some(quote), 2),
        (quote @ (b'"' | b'\'' | b'`'), _) => (Some(quote), 1),
        _ => (None, 0),
    };
    if let Some(quote) = open {
        let start = at + escaped;
        let end = closing(view, start, quote, escaped == 2)?;
        return (end > start).then_some(Value { start, end, quoted: true });
    }
    let mut end =
        view.run(at, MAX_VALUE, |b| !b.is_ascii_whitespace() && !matches!(b, b'"' | b'\'' | b'`' | b'<'));
    if let Some(sign) = view.before(key_start).filter(|b| matches!(b, b'?' | b'&' | b';')) {
        let stop = if sign == b';' { b';' } else { b'&' };
        end = view.run(at, end - at, |b| b != stop);
    } else if view.before(skip_spaces_back(view, key_start)) == Some(b';') {
        end = view.run(at, end - at, |b| b != b';');
    }
    let text = view.bytes.get(at..end)?;
    let trailing = text.iter().rev().take_while(|b| b".,;:)]}>\\".contains(b)).count();
    (end - trailing > at).then_some(Value { start: at, end: end - trailing, quoted: false })
}

fn skip_spaces_back(view: &View<'_>, at: usize) -> usize {
    view.run_back(at, 4, |b| b == b' ')
}

/// Where the quoted value ends: at its quote, or, when the line ends first, with the line.
fn closing(view: &View<'_>, start: usize, quote: u8, escaped: bool) -> Option<usize> {
    let line = view.run(start, MAX_VALUE, |b| b != b'\n');
    let mut at = start;
    while at < line {
        match view.byte(at)? {
            b'\\' if escaped && view.byte(at + 1) == Some(quote) => return Some(at),
            b'\\' => at += 2,
            b if b == quote => return Some(at),
            _ => at += 1,
        }
    }
    Some(line.min(view.run(start, MAX_VALUE, |b| !b.is_ascii_whitespace())))
}

fn is_password(view: &View<'_>, value: &Value, text: &str, form: Form) -> bool {
    let len = text.chars().count();
    let closed_line =
        matches!(view.byte(value.end), None | Some(b'\n' | b'\r' | b'"' | b'\'' | b'}' | b',' | b'<'));
    match form {
        _ if len < 3 => false,
        Form::Assigned if value.quoted => !text.contains('\n'),
        Form::Assigned => closed_line || len >= 4,
        // A type in code looks like this too, but a comma follows it.
        Form::Colon => {
            let ends_line = matches!(view.byte(value.end), None | Some(b'\n' | b'\r' | b'"' | b'\''));
            value.quoted || secrecy::is_chosen(text) || (ends_line && len >= 6)
        }
        Form::Verb => secrecy::is_chosen(text) || (value.quoted && len >= 4),
        Form::Bare => secrecy::is_strong(text) && !text.starts_with('-'),
    }
}

/// Whether an unquoted value is a name or a type in code: `self.password`, `new_password`, `&str`, `a::B`, or the
/// first word of an expression. What a key in capitals is set to (`DB_PASS=blue_monkey`) is no code.
fn is_code(view: &View<'_>, key_start: usize, key_end: usize, value: &Value) -> bool {
    let (text, key) = (view.slice(value.start, value.end), view.slice(key_start, key_end));
    let name = text.trim_start_matches(['&', '*', '[', '(', '!']);
    let sigil = name.len() < text.len();
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'.' | b':'));
    let shouted = !key.bytes().any(|b| b.is_ascii_lowercase());
    let expression = view.before(value.start) == Some(b' ')
        && matches!(view.byte(value.end), Some(b' ' | b'<' | b'(' | b'{'))
        && !key.starts_with('-');
    text.contains("::")
        || (named && sigil)
        || (named && view.slice(value.end, value.end + 2) == " =")
        || (named && !shouted && (expression || name.contains(['_', ':']) || is_lookup(name)))
}

/// `args.password`, `cfg.secret`: the last part says what it is.
fn is_lookup(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    name.contains('.')
        && ["pass", "pwd", "secret", "token", "value", "text"].iter().any(|word| last.contains(word))
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
