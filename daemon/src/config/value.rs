//! Values that a configuration key can hold, parsed once at the edge.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// A path that starts at the root, so that the folder the daemon was started in does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PathBuf", into = "PathBuf")]
pub struct AbsolutePath(PathBuf);

impl AbsolutePath {
    /// For the paths written into this program.
    pub(super) fn fixed(path: &'static str) -> Self {
        Self(PathBuf::from(path))
    }
}

impl std::ops::Deref for AbsolutePath {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl TryFrom<PathBuf> for AbsolutePath {
    type Error = &'static str;
    fn try_from(path: PathBuf) -> Result<Self, Self::Error> {
        if path.is_absolute() { Ok(Self(path)) } else { Err("not an absolute path") }
    }
}

impl From<AbsolutePath> for PathBuf {
    fn from(path: AbsolutePath) -> Self {
        path.0
    }
}

/// A gateway's address as a user writes it: a name or an IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort {
    host: String,
    port: u16,
}

impl FromStr for HostPort {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or("no port")?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or("not a port")?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let plausible = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            }
        };
        if plausible { Ok(Self { host: host.to_owned(), port }) } else { Err("not a host") }
    }
}

impl TryFrom<String> for HostPort {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> Self {
        address.to_string()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// An HTTP proxy as a user writes it: `http://host:port`. Its credentials have a file of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpProxy(HostPort);

impl HttpProxy {
    /// `host:port`.
    pub fn address(&self) -> String {
        self.0.to_string()
    }
}

impl TryFrom<String> for HttpProxy {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let address = text.strip_prefix("http://").ok_or("not an http address")?;
        Ok(Self(address.strip_suffix('/').unwrap_or(address).parse()?))
    }
}

impl From<HttpProxy> for String {
    fn from(proxy: HttpProxy) -> Self {
        format!("http://{}", proxy.0)
    }
}

/// A loopback address and a port: what listens there is for this machine only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Loopback(SocketAddr);

impl Loopback {
    /// To bind to.
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

impl TryFrom<String> for Loopback {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = text.strip_prefix("localhost:").map_or(text.clone(), |port| format!("127.0.0.1:{port}"));
        let address: SocketAddr = text.parse().map_err(|_| "not an address with a port")?;
        if address.ip().is_loopback() { Ok(Self(address)) } else { Err("not a loopback address") }
    }
}

impl From<Loopback> for String {
    fn from(address: Loopback) -> Self {
        address.0.to_string()
    }
}

/// The base of a web address, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Url(String);

impl Url {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Url {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let base = text.trim_end_matches('/');
        let parsed: http::Uri = base.parse().map_err(|_| "not an address")?;
        let known = matches!(parsed.scheme_str(), Some("http" | "https"));
        if known && parsed.host().is_some_and(|host| !host.is_empty()) && parsed.query().is_none() {
            Ok(Self(base.to_owned()))
        } else {
            Err("not an http or https address")
        }
    }
}

impl From<Url> for String {
    fn from(url: Url) -> Self {
        url.0
    }
}

/// A number from 0 to 1.
pub(super) fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(D::Error::custom("out of range")) }
}

/// A whole number from `MIN` to `MAX`.
pub(super) fn between<'de, const MIN: u32, const MAX: u32, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<u32, D::Error> {
    let value = u32::deserialize(deserializer)?;
    if (MIN..=MAX).contains(&value) { Ok(value) } else { Err(D::Error::custom("out of range")) }
}

/// A port that can be dialled.
pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    match u16::deserialize(deserializer)? {
        0 => Err(D::Error::custom("out of range")),
        port => Ok(port),
    }
}

/// As [`between`], for sizes.
pub(super) fn between_u64<'de, const MIN: u64, const MAX: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<u64, D::Error> {
    let value = u64::deserialize(deserializer)?;
    if (MIN..=MAX).contains(&value) { Ok(value) } else { Err(D::Error::custom("out of range")) }
}

/// A sampling temperature.
pub(super) mod temperature {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<f32, D::Error> {
        let value = f32::deserialize(deserializer)?;
        if (0.0..=2.0).contains(&value) { Ok(value) } else { Err(D::Error::custom("out of range")) }
    }

    /// Through its shortest decimal, so that 0.7 is shown as 0.7 and not as its nearest double.
    pub(in crate::config) fn serialize<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
        value.to_string().parse::<f64>().unwrap_or_default().serialize(serializer)
    }
}

/// An optional amount in US dollars. The file layer hands over the digits as they were written.
pub(super) mod usd {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use synesis_ledger::NanoUsd;

    const NANOS: i64 = 1_000_000_000;

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<NanoUsd>, D::Error> {
        let Some(digits) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        match NanoUsd::parse_usd(&digits) {
            Ok(amount) => Ok(Some(amount)),
            Err(error) => Err(D::Error::custom(error)),
        }
    }

    pub(in crate::config) fn serialize<S: Serializer>(
        amount: &Option<NanoUsd>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        amount.map(|amount| digits(amount.as_i64())).serialize(serializer)
    }

    /// Plain decimal digits that parse back to the same amount.
    fn digits(nanos: i64) -> String {
        let (whole, fraction) = (nanos / NANOS, (nanos % NANOS).abs());
        format!("{whole}.{fraction:09}").trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}
