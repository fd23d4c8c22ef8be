//! What the tunnel says of itself, as `status` shows it.

use synesis_mesh::device::{self, TunnelStatus};

use super::Damage;
use crate::node::{TunnelState, TunnelView};

/// The tunnel's own words; an identity that cannot be read is told before everything else.
pub(super) fn view_of(status: &TunnelStatus, damage: Option<&Damage>) -> TunnelView {
    match damage {
        Some(Damage { reason, next_step }) => TunnelView {
            // It has an identity, so it is not unenrolled.
            state: TunnelState::Offline,
            reason: reason.clone(),
            next_step: next_step.clone(),
            ..TunnelView::unenrolled()
        },
        None => told(status),
    }
}

fn told(status: &TunnelStatus) -> TunnelView {
    let state = match status.state {
        device::TunnelState::Unenrolled => TunnelState::Unenrolled,
        device::TunnelState::Offline => TunnelState::Offline,
        device::TunnelState::Connecting => TunnelState::Connecting,
        device::TunnelState::Up => TunnelState::Up,
        device::TunnelState::Draining => TunnelState::Draining,
        device::TunnelState::Backoff => TunnelState::Backoff,
        device::TunnelState::Revoked => TunnelState::Revoked,
    };
    // A tunnel that is up may have something to say, too: why it is not on QUIC.
    let reason = status.reason.clone().unwrap_or_else(|| default_reason(state).to_owned());
    let next_step = status.next_step.clone().unwrap_or_else(|| default_next_step(state).to_owned());
    TunnelView {
        state,
        gateway: status.gateway.clone().unwrap_or_default(),
        transport: status.transport,
        rtt: status.rtt,
        connected_since: status.connected_since,
        rebinds: status.rebinds,
        reason,
        next_step,
        retry_at: status.retry_at,
    }
}

const fn default_reason(state: TunnelState) -> &'static str {
    match state {
        TunnelState::Unenrolled => "this device is not enrolled",
        TunnelState::Offline => "the tunnel is not running",
        TunnelState::Connecting => "connecting to the gateway",
        TunnelState::Draining => "the gateway asked this device to move",
        TunnelState::Backoff => "the gateway could not be reached",
        TunnelState::Revoked => "the gateway revoked this device",
        TunnelState::Up => "",
    }
}

const fn default_next_step(state: TunnelState) -> &'static str {
    match state {
        TunnelState::Unenrolled => "run `synctl enroll` to use a gateway; local answers need none",
        TunnelState::Revoked => {
            "ask the gateway's operator for a new token, then `synctl unenroll` and `synctl enroll`"
        }
        TunnelState::Connecting | TunnelState::Draining => "nothing; it takes a few seconds",
        TunnelState::Offline | TunnelState::Backoff => {
            "it is tried again by itself; `synctl tunnel reconnect` tries now, local answers go on"
        }
        TunnelState::Up => "",
    }
}
