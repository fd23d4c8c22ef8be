//! What a device does where UDP does not get through: TLS over TCP, straight or through an HTTP proxy.

use std::path::PathBuf;

/// The TCP port of a gateway, unless something else is configured: firewalls and proxies let it through.
pub const FALLBACK_PORT: u16 = 443;

/// Whether and how to try TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fallback {
    /// Never.
    Off,
    /// When QUIC does not get through.
    Auto {
        /// The gateway's TCP port, at the host of its QUIC endpoint.
        port: u16,
        /// The way out for TCP, where there is no straight one.
        proxy: Option<Proxy>,
    },
}

impl Default for Fallback {
    fn default() -> Self {
        Self::Auto { port: FALLBACK_PORT, proxy: None }
    }
}

/// An HTTP proxy that tunnels with CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// `host:port`.
    pub address: String,
    /// A file with `user:password`, read again for every connection.
    pub credentials_file: Option<PathBuf>,
}

/// The TCP counterpart of a gateway's `host:port`.
pub(super) fn tcp_target(gateway: &str, port: u16) -> String {
    let host = gateway.rsplit_once(':').map_or(gateway, |(host, _)| host);
    format!("{host}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tcp_port_is_at_the_same_host() {
        assert_eq!(tcp_target("gateway.example.com:4433", 443), "gateway.example.com:443");
        assert_eq!(tcp_target("[2001:db8::1]:4433", 8443), "[2001:db8::1]:8443");
        assert_eq!(tcp_target("192.0.2.1:4433", 443), "192.0.2.1:443");
    }
}
