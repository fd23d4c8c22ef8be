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

/// Looks at the URL whose `://` (or whose `jdbc:`) is at `marker`. Also returns where the URL ends, so that its
/// inside is not looked at again.
pub(super) fn around(view: &View<'_>, marker: usize) -> (usize, Option<Finding>) {
    let end = end_of_url(view, marker);
    if view.byte(marker) != Some(b':') {
        return (end, jdbc(view, marker, end));
    }
    let start = view.run_back(marker, 32, |b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let scheme = view.slice(start, marker).to_ascii_lowercase();
    (end, credentials(view, start, marker + 3, end, &scheme))
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
