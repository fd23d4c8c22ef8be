//! URLs that carry a password or a token, and connection strings written as URLs.

use super::finding::{Evidence, Finding};
use super::view::View;
use crate::check::secrecy;
use crate::kind::Kind;

/// Longest URL that is looked at, in bytes.
const MAX_URL: usize = 4096;
/// Schemes of databases, caches and brokers; what follows a `+` (a driver) is ignored.
const DATABASES: &[&str] = &[
    "postgres",
    "postgresql",
    "pgsql",
    "mysql",
    "mysqlx",
    "mariadb",
    "mongodb",
    "redis",
    "rediss",
    "valkey",
    "amqp",
    "amqps",
    "mssql",
    "sqlserver",
    "oracle",
    "clickhouse",
    "cassandra",
    "cockroachdb",
    "cockroach",
    "neo4j",
    "bolt",
    "couchdb",
    "couchbase",
    "kafka",
    "nats",
    "snowflake",
    "redshift",
    "db2",
    "sybase",
    "influxdb",
    "mqtt",
    "mqtts",
    "ldap",
    "ldaps",
    "elasticsearch",
    "memcached",
    "trino",
    "presto",
    "hive",
];

/// The text without blanks around a URL, which may hold several: a proxy's, a redirect's, a list's. Kept while
/// the URLs in it are looked at, so that each byte is passed over once.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Token {
    end: usize,
    /// One past the last `@` before `end`; behind it no URL has credentials.
    after_sign: usize,
}

impl Token {
    /// The token that `marker` lies in: this one, or a new one.
    pub(super) fn around(self, view: &View<'_>, marker: usize) -> Self {
        if marker < self.end {
            return self;
        }
        let end = end_of_url(view, marker);
        let sign = view.bytes.get(marker..end).and_then(|bytes| bytes.iter().rposition(|b| *b == b'@'));
        Self { end, after_sign: sign.map_or(marker, |at| marker + at + 1) }
    }
}

/// The credentials of the URL whose `://` (or whose `jdbc:`) is at `marker`. Also returns up to where no other URL
/// needs a look: a second one may follow in the same token.
pub(super) fn at(view: &View<'_>, marker: usize, token: &Token) -> (usize, Option<Finding>) {
    if view.byte(marker) != Some(b':') {
        return (token.end, jdbc(view, marker, token.end));
    }
    let finding = if marker < token.after_sign { with_scheme(view, marker, token) } else { None };
    (finding.map_or(marker, |finding| finding.end), finding)
}

fn with_scheme(view: &View<'_>, marker: usize, token: &Token) -> Option<Finding> {
    let start = view.run_back(marker, 32, |b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let start = view.behind_escape(start, marker);
    let scheme = view.slice(start, marker).to_ascii_lowercase();
    credentials(view, start, marker + 3, token.end, &scheme)
}

fn end_of_url(view: &View<'_>, marker: usize) -> usize {
    let end = view.run(marker, MAX_URL, |b| {
        !b.is_ascii_whitespace()
            && !b.is_ascii_control()
            && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\' | b'|')
    });
    let trailing = view.slice(marker, end).bytes().rev().take_while(|b| b".,;:!?)]}".contains(b)).count();
    end.saturating_sub(trailing).max(marker)
}

fn credentials(
    view: &View<'_>,
    start: usize,
    after_scheme: usize,
    end: usize,
    scheme: &str,
) -> Option<Finding> {
    let rest = view.bytes.get(after_scheme..end)?;
    let at = userinfo_len(rest)?;
    let userinfo = view.slice(after_scheme, after_scheme + at);
    let secret = match userinfo.split_once(':') {
        Some((_, password)) => !password.is_empty() && !secrecy::is_mask(password),
        // A token alone in front of the host: `https://TOKEN@github.com/...`.
        None => userinfo.len() >= 20 && secrecy::is_random(userinfo),
    };
    let database = DATABASES.contains(&scheme.split('+').next().unwrap_or_default());
    let (kind, start, end, rule) = match database {
        true => (Kind::DbConnection, start, end, "connection-url"),
        false => (Kind::UrlCredentials, after_scheme, after_scheme + at, "url-userinfo"),
    };
    secret.then_some(Finding { start, end, kind, rule, evidence: Evidence::Shape })
}

/// Bytes in front of the `@` that ends user and password. A password may hold `/`, `?` or `#` though it should
/// not; a port number in front of the first of them says that there is none.
pub(super) fn userinfo_len(rest: &[u8]) -> Option<usize> {
    let authority = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    if let Some(at) = rest[..authority].iter().rposition(|b| *b == b'@') {
        return Some(at);
    }
    let colon = rest[..authority].iter().position(|b| *b == b':')?;
    let port = rest[colon + 1..authority].iter().all(u8::is_ascii_digit);
    let at = rest[authority..].iter().position(|b| *b == b'@')?;
    (!port).then_some(authority + at)
}

/// The password in front of the host of a URL.
pub(super) fn password(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let userinfo = rest.get(..userinfo_len(rest.as_bytes())?)?;
    userinfo.split_once(':').map(|(_, password)| password)
}

/// `jdbc:...` with a password among its parameters or in front of its host.
fn jdbc(view: &View<'_>, start: usize, end: usize) -> Option<Finding> {
    let lower = view.slice(start, end).to_ascii_lowercase();
    let parameter = ["password=", "pwd=", "passwd="].iter().any(|key| lower.contains(key));
    let userinfo =
        lower.split_once("://").is_some_and(|(_, rest)| {
            userinfo_len(rest.as_bytes()).is_some_and(|at| rest.get(..at).is_some_and(|u| u.contains(':')))
        }) || (lower.starts_with("jdbc:oracle:thin:") && lower.contains("/") && lower.contains('@'));
    (parameter || userinfo).then_some(Finding {
        start,
        end,
        kind: Kind::DbConnection,
        rule: "jdbc-url",
        evidence: Evidence::Shape,
    })
}
