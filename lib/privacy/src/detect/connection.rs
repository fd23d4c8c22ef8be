//! Connection strings written as `key=value` pairs (libpq, ADO.NET, ODBC): found around their password.

use super::finding::{Evidence, Finding};
use super::view::View;
use crate::kind::Kind;

/// How far the string may reach to either side of the password, in bytes.
const REACH: usize = 512;
/// Keys of connection strings, lower case without spaces.
const KEYS: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "database",
    "initialcatalog",
    "server",
    "datasource",
    "address",
    "addr",
    "user",
    "userid",
    "uid",
    "username",
    "login",
    "password",
    "pwd",
    "sslmode",
    "encrypt",
    "trustservercertificate",
    "driver",
    "provider",
    "integratedsecurity",
    "connecttimeout",
    "connectiontimeout",
    "connect_timeout",
    "application_name",
    "applicationname",
    "multipleactiveresultsets",
    "persistsecurityinfo",
    "pooling",
    "charset",
    "sslcert",
    "sslkey",
    "servername",
    "dsn",
    "options",
    "target_session_attrs",
    "networkaddress",
    "servicename",
];
/// One of these makes a list of pairs a connection.
const HOSTS: &[&str] =
    &["host", "hostaddr", "server", "datasource", "address", "addr", "servername", "dsn", "networkaddress"];

/// The connection string around the pair that spans `key..value_end`, if there is one.
pub(super) fn around(view: &View<'_>, key: usize, value_end: usize) -> Option<Finding> {
    let semicolons =
        view.byte(value_end) == Some(b';') || view.before(skip_spaces_back(view, key)) == Some(b';');
    let separator = if semicolons { b';' } else { b' ' };
    let (mut start, mut end, mut hosts) = (key, value_end, 0);
    let (first, last) = (key.saturating_sub(REACH), (value_end + REACH).min(view.bytes.len()));
    while let Some((pair, is_host)) = pair_before(view, start, first, separator) {
        start = pair;
        hosts += usize::from(is_host);
    }
    while let Some((pair_end, is_host)) = pair_after(view, end, last, separator) {
        end = pair_end;
        hosts += usize::from(is_host);
    }
    (hosts > 0).then_some(Finding {
        start,
        end,
        kind: Kind::DbConnection,
        rule: "connection-pairs",
        evidence: Evidence::Shape,
    })
}

/// The password among the pairs of a connection string, or among the parameters of a URL.
pub(super) fn password(text: &str) -> Option<&str> {
    let separators = if text.contains("://") || text.contains(';') { &['?', '&', ';'][..] } else { &[' '] };
    text.split(separators).find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let is_password =
            ["password", "pwd", "passwd"].iter().any(|name| key.trim().eq_ignore_ascii_case(name));
        (is_password && !value.is_empty()).then_some(value)
    })
}

fn skip_spaces_back(view: &View<'_>, at: usize) -> usize {
    view.run_back(at, 4, |b| b == b' ')
}

/// The start of the pair that ends just before `at`, and whether it names a host.
fn pair_before(view: &View<'_>, at: usize, first: usize, separator: u8) -> Option<(usize, bool)> {
    let mut end = skip_spaces_back(view, at);
    if separator == b';' {
        end = (view.before(end)? == b';').then(|| end - 1)?;
    } else if end == at {
        return None;
    }
    let start = view.run_back(end, end.saturating_sub(first), |b| in_pair(b, separator));
    let start = view.run(start, 4, |b| b == b' ');
    let pair = view.slice(start, end);
    if let Some(host) = is_pair(pair) {
        return Some((start, host));
    }
    // Prose in front of the first pair: the key is the last word or two before the `=`.
    let (key, _) = pair.split_once('=')?;
    [1, 2].into_iter().find_map(|words| {
        let at = key.rmatch_indices(' ').nth(words - 1)?.0 + 1;
        is_pair(pair.get(at..)?).map(|host| (start + at, host))
    })
}

/// The end of the pair that starts just after `at`, and whether it names a host.
fn pair_after(view: &View<'_>, at: usize, last: usize, separator: u8) -> Option<(usize, bool)> {
    let mut start = at;
    if separator == b';' {
        start = (view.byte(start)? == b';').then_some(start + 1)?;
    }
    let spaces = view.run(start, 4, |b| b == b' ');
    if separator == b' ' && spaces == start {
        return None;
    }
    let end = view.run(spaces, last.saturating_sub(spaces), |b| in_pair(b, separator));
    Some((end, is_pair(view.slice(spaces, end))?))
}

fn in_pair(byte: u8, separator: u8) -> bool {
    byte != separator && !matches!(byte, b'"' | b'\'' | b'\n' | b'\r' | b'`')
}

/// Whether `pair` is `key=value` with a key of connection strings, and then whether it names a host.
fn is_pair(pair: &str) -> Option<bool> {
    let (key, value) = pair.split_once('=')?;
    let key: String = key.chars().filter(|c| *c != ' ').map(|c| c.to_ascii_lowercase()).collect();
    (KEYS.contains(&key.as_str()) && !value.is_empty()).then(|| HOSTS.contains(&key.as_str()))
}
