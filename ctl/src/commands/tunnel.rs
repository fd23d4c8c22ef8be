//! `tunnel`: how the connection to the gateway is doing, how long a round trip takes, and dialling now.

use clap::Subcommand;
use serde::Serialize;
use synesis_proto::control::v1::{
    Tunnel, TunnelPingReply, TunnelPingRequest, TunnelReconnectRequest, TunnelStatusRequest,
};

use crate::connect::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::units;
use crate::view::{Style, View, present};

/// The commands below `tunnel`.
#[derive(Debug, Subcommand)]
pub(crate) enum TunnelCommand {
    /// Show the state of the tunnel
    Status,
    /// Measure one heartbeat there and back, now
    Ping,
    /// Dial now instead of waiting for the next try
    Reconnect,
}

pub(crate) async fn run(
    command: TunnelCommand,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut admin = context.connect().await?.admin();
    match command {
        TunnelCommand::Status => {
            let tunnel = admin.tunnel_status(TunnelStatusRequest {}).await?.into_inner();
            output.print(&TunnelView { schema: "synesis.tunnel/1", tunnel: tunnel.into() }).await
        }
        TunnelCommand::Ping => {
            let reply = admin.tunnel_ping(TunnelPingRequest {}).await?.into_inner();
            output.print(&PingView::from(reply)).await
        }
        TunnelCommand::Reconnect => {
            admin.tunnel_reconnect(TunnelReconnectRequest {}).await?;
            output.print(&ReconnectView { schema: "synesis.reconnect/1", dialling: true }).await
        }
    }
}

/// The tunnel as `status` and `tunnel status` show it.
#[derive(Debug, Serialize)]
pub(crate) struct TunnelJson {
    pub(crate) state: String,
    pub(crate) gateway: Option<String>,
    /// "quic", or "tcp" where UDP does not get through; null unless the tunnel is up.
    pub(crate) transport: Option<String>,
    /// Rounded up; null unless the tunnel is up and a heartbeat was acknowledged.
    pub(crate) rtt_ms: Option<u64>,
    pub(crate) rtt_us: Option<u64>,
    pub(crate) connected_since: Option<String>,
    pub(crate) retry_in_ms: Option<u64>,
    /// Times the path of this connection was bound anew.
    pub(crate) rebinds: u32,
    /// When this device's certificate ends; it is renewed by itself long before.
    pub(crate) certificate_until: Option<String>,
    /// The gateway's clock minus this device's.
    pub(crate) clock_offset_ms: Option<i64>,
    pub(crate) reason: Option<String>,
    pub(crate) next_step: Option<String>,
}

impl From<Tunnel> for TunnelJson {
    fn from(tunnel: Tunnel) -> Self {
        let rtt = tunnel.rtt_ms.filter(|_| tunnel.state == "up");
        Self {
            state: present(tunnel.state).unwrap_or_else(|| "unenrolled".to_owned()),
            gateway: present(tunnel.gateway),
            transport: present(tunnel.transport),
            rtt_ms: rtt.map(units::whole_ms),
            rtt_us: rtt.map(units::whole_us),
            connected_since: present(tunnel.connected_since),
            retry_in_ms: tunnel.retry_in_ms,
            rebinds: tunnel.rebinds,
            certificate_until: present(tunnel.certificate_until),
            clock_offset_ms: tunnel.clock_offset_ms,
            reason: present(tunnel.reason),
            next_step: present(tunnel.next_step),
        }
    }
}

impl TunnelJson {
    /// What belongs behind the state on one line.
    pub(crate) fn summary(&self) -> String {
        let rtt = self.rtt_us.map(|us| format!("round trip {}", units::duration(us as f64 / 1_000.0)));
        let since = self.connected_since.as_ref().map(|at| format!("since {at}"));
        let retry = self.retry_in_ms.map(|ms| format!("next try in {}", units::duration(ms as f64)));
        let transport = self.transport.as_deref().map(|transport| match transport {
            "quic" => "over QUIC".to_owned(),
            other => format!("over {}", other.to_uppercase()),
        });
        let rebinds = match self.rebinds {
            0 => None,
            1 => Some("rebound once".to_owned()),
            times => Some(format!("rebound {times} times")),
        };
        let parts = [self.gateway.clone(), transport, rtt, since, rebinds, retry];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[derive(Debug, Serialize)]
struct TunnelView {
    schema: &'static str,
    #[serde(flatten)]
    tunnel: TunnelJson,
}

impl View for TunnelView {
    fn human(&self, style: Style) -> String {
        let mut text = format!("{}  {}", style.state(&self.tunnel.state, 0), self.tunnel.summary());
        if let Some(until) = &self.tunnel.certificate_until {
            text.push_str(&format!("\ncertificate valid until {until}"));
        }
        let labels = [("why:", &self.tunnel.reason), ("next:", &self.tunnel.next_step)];
        for (label, line) in labels {
            if let Some(line) = line {
                text.push_str(&format!("\n{} {line}", style.strong(label)));
            }
        }
        text
    }
}

#[derive(Debug, Serialize)]
struct PingView {
    schema: &'static str,
    rtt_ms: u64,
    rtt_us: u64,
    gateway: Option<String>,
}

impl From<TunnelPingReply> for PingView {
    fn from(reply: TunnelPingReply) -> Self {
        Self {
            schema: "synesis.ping/1",
            rtt_ms: units::whole_ms(reply.rtt_ms),
            rtt_us: units::whole_us(reply.rtt_ms),
            gateway: present(reply.gateway),
        }
    }
}

impl View for PingView {
    fn human(&self, _: Style) -> String {
        let gateway = self.gateway.as_deref().unwrap_or("the gateway");
        format!("{gateway} answered in {}", units::duration(self.rtt_us as f64 / 1_000.0))
    }
}

#[derive(Debug, Serialize)]
struct ReconnectView {
    schema: &'static str,
    dialling: bool,
}

impl View for ReconnectView {
    fn human(&self, _: Style) -> String {
        "dialling now; `synctl tunnel status` shows how it went".to_owned()
    }
}
