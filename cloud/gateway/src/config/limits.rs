//! The `[limits]` and `[drain]` tables, and what else a crowd of devices is configured with.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::duration::DurationText;
use super::error::ConfigError;
use crate::limits::{DeviceRates, Rate, Rules, SourceRules};

/// Counts beyond this are mistakes.
const MOST: u32 = 1_000_000;

/// `[limits]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    handshakes: u32,
    source_handshakes: u32,
    source_connections_per_second: u32,
    device_connections_per_minute: u32,
    asks_per_minute: u32,
    adapter_uploads_per_hour: u32,
    others_per_minute: u32,
    unread_answer: DurationText,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            // At ten seconds each for those that never finish, and well under one for the others, all devices of a gateway can
            // come back within seconds.
            handshakes: 1024,
            // A quarter of that: many devices may share an address, but nobody shuts the others out.
            source_handshakes: 256,
            source_connections_per_second: 200,
            device_connections_per_minute: 60,
            asks_per_minute: 100,
            adapter_uploads_per_hour: 10,
            others_per_minute: 1000,
            unread_answer: DurationText(Duration::from_secs(30)),
        }
    }
}

impl RawLimits {
    pub(super) fn check(&self) -> Result<Rules, ConfigError> {
        let counts = [
            ("handshakes", self.handshakes),
            ("source_handshakes", self.source_handshakes),
            ("source_connections_per_second", self.source_connections_per_second),
            ("device_connections_per_minute", self.device_connections_per_minute),
            ("asks_per_minute", self.asks_per_minute),
            ("adapter_uploads_per_hour", self.adapter_uploads_per_hour),
            ("others_per_minute", self.others_per_minute),
        ];
        if let Some((key, count)) = counts.iter().find(|(_, count)| !(1..=MOST).contains(count)) {
            let what = format!("{count} is no limit");
            return Err(ConfigError::bad(format!("limits.{key}"), what, format!("write 1 to {MOST}")));
        }
        Ok(Rules {
            handshakes: self.handshakes,
            source: SourceRules {
                handshakes: self.source_handshakes,
                connections: Rate::per_second(self.source_connections_per_second),
            },
            device: DeviceRates {
                connections: Rate::per_minute(self.device_connections_per_minute),
                asks: Rate::per_minute(self.asks_per_minute),
                adapter_uploads: Rate::per_hour(self.adapter_uploads_per_hour),
                others: Rate::per_minute(self.others_per_minute),
            },
            unread: positive("limits.unread_answer", self.unread_answer)?,
        })
    }
}

/// How the gateway goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drain {
    /// In which devices move, each at a moment of its own, when there are many.
    pub(crate) window: Duration,
    /// After which answers that still run are cut.
    pub(crate) deadline: Duration,
}

/// `[drain]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDrain {
    window: DurationText,
    deadline: DurationText,
}

impl Default for RawDrain {
    fn default() -> Self {
        Self {
            window: DurationText(Duration::from_secs(10)),
            deadline: DurationText(Duration::from_secs(60)),
        }
    }
}

impl RawDrain {
    pub(super) fn check(&self) -> Result<Drain, ConfigError> {
        let window = positive("drain.window", self.window)?;
        let deadline = positive("drain.deadline", self.deadline)?;
        if deadline < window {
            let what = "devices would be cut before they are to move";
            return Err(ConfigError::bad("drain.deadline", what, "write at least drain.window"));
        }
        Ok(Drain { window, deadline })
    }
}

fn positive(key: &str, DurationText(duration): DurationText) -> Result<Duration, ConfigError> {
    if duration.is_zero() {
        return Err(ConfigError::bad(key, "it is no time at all", "write a duration such as \"10s\""));
    }
    Ok(duration)
}

/// Where `/ready` and `/metrics` are, if anywhere.
pub(super) fn http_listen(text: Option<&str>, allow_remote: bool) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let address: SocketAddr = text.parse().map_err(|_| {
        ConfigError::bad(
            "http_listen",
            format!("{text:?} is not an address and a port"),
            "write an IP address and a port, for example \"127.0.0.1:9464\"",
        )
    })?;
    if !address.ip().is_loopback() && !allow_remote {
        return Err(ConfigError::bad(
            "http_listen",
            format!("{address} can be reached from elsewhere, and asks nobody who they are"),
            "use a loopback address, or set http_allow_remote = true when the network is yours",
        ));
    }
    Ok(Some(address))
}
