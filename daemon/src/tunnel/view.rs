//! What the tunnel says of itself, as `status` shows it.

use std::time::{Duration, SystemTime};

use synesis_mesh::device::{self, TunnelStatus};
use synesis_mesh::identity::DeviceIdentity;

use super::Damage;
use crate::node::{TunnelState, TunnelView};

const DAY: Duration = Duration::from_secs(86_400);
/// A certificate that ends sooner should have been renewed long ago.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 86_400);
/// Clocks that are off by less are not worth a word.
const TOLERABLE_OFFSET: Duration = Duration::from_secs(300);

/// The tunnel's own words; an identity that cannot be read is told before everything else.
pub(super) fn view_of(
    status: &TunnelStatus,
    identity: Option<&DeviceIdentity>,
    damage: Option<&Damage>,
) -> TunnelView {
    match damage {
        Some(Damage { reason, next_step }) => TunnelView {
            // It has an identity, so it is not unenrolled.
            state: TunnelState::Offline,
            reason: reason.clone(),
            next_step: next_step.clone(),
            ..TunnelView::unenrolled()
        },
        None => told(status, identity.and_then(|identity| identity.not_after().ok())),
    }
}

fn told(status: &TunnelStatus, certificate_until: Option<SystemTime>) -> TunnelView {
    let state = match status.state {
        device::TunnelState::Unenrolled => TunnelState::Unenrolled,
        device::TunnelState::Offline => TunnelState::Offline,
        device::TunnelState::Connecting => TunnelState::Connecting,
        device::TunnelState::Up => TunnelState::Up,
        device::TunnelState::Draining => TunnelState::Draining,
        device::TunnelState::Backoff => TunnelState::Backoff,
        device::TunnelState::Revoked => TunnelState::Revoked,
    };
    let warned = match state {
        TunnelState::Up => warning(status, certificate_until, SystemTime::now()),
        _ => None,
    };
    // A tunnel that is up may have something to say, too: why it is not on QUIC.
    let (reason, next_step) = warned.unwrap_or_else(|| {
        (
            status.reason.clone().unwrap_or_else(|| default_reason(state).to_owned()),
            status.next_step.clone().unwrap_or_else(|| default_next_step(state).to_owned()),
        )
    });
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
        certificate_until,
        clock_offset_ms: status.clock_offset_ms,
    }
}

/// What is wrong although the tunnel is up, and what to do about it.
fn warning(status: &TunnelStatus, until: Option<SystemTime>, now: SystemTime) -> Option<(String, String)> {
    let offset_ms = status.clock_offset_ms.unwrap_or_default();
    let offset = Duration::from_millis(offset_ms.unsigned_abs());
    // The gateway's word on the date is good enough for a warning.
    let now = if offset_ms < 0 { now.checked_sub(offset) } else { now.checked_add(offset) }.unwrap_or(now);
    if let Some(left) = until.map(|until| until.duration_since(now).unwrap_or_default())
        && left < WARN_BEFORE
    {
        let why = status.renewal.as_deref().unwrap_or("it has not been renewed yet");
        return Some((
            format!("this device's certificate ends in {} days: {why}", left.as_secs() / DAY.as_secs()),
            "it is renewed by itself while the tunnel is up; if it is not, see the gateway's log".to_owned(),
        ));
    }
    (offset > TOLERABLE_OFFSET).then(|| {
        let direction = if offset_ms < 0 { "fast" } else { "slow" };
        (
            format!("this device's clock is {} {direction}, by the gateway's", span(offset)),
            "set the clock: check that NTP works (`timedatectl status`)".to_owned(),
        )
    })
}

fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..7_200 => format!("{} minutes", seconds / 60),
        seconds @ ..172_800 => format!("{} hours", seconds / 3_600),
        seconds => format!("{} days", seconds / DAY.as_secs()),
    }
}

const fn default_reason(state: TunnelState) -> &'static str {
    match state {
        TunnelState::Unenrolled => "this device is not enrolled",
        TunnelState::Offline => "the tunnel is not running",
        TunnelState::Connecting => "connecting to the gateway",
        TunnelState::Draining => "this device moves to another connection",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn up(clock_offset_ms: i64) -> TunnelStatus {
        let (handle, _) = device::Tunnel::new(
            device::TunnelConfig::new("test/1", tokio::sync::watch::channel(None).1),
            None,
        );
        let status = handle.status().borrow().clone();
        TunnelStatus { state: device::TunnelState::Up, clock_offset_ms: Some(clock_offset_ms), ..status }
    }

    fn said(offset_ms: i64, days_left: u64) -> Option<(String, String)> {
        let now = SystemTime::now();
        warning(&up(offset_ms), Some(now + DAY * u32::try_from(days_left).unwrap()), now)
    }

    #[test]
    fn a_clock_that_is_off_by_more_than_five_minutes_is_told_with_its_direction() {
        assert_eq!(said(300_000, 200), None);
        assert_eq!(said(-300_000, 200), None);
        let (slow, next) = said(3 * 3_600_000, 200).unwrap();
        assert!(slow.contains("3 hours slow") && next.contains("NTP"), "{slow}; {next}");
        assert!(said(-360_000, 200).unwrap().0.contains("6 minutes fast"));
    }

    #[test]
    fn a_certificate_that_ends_within_thirty_days_is_told_by_the_gateways_date() {
        assert_eq!(said(0, 31), None);
        assert!(said(0, 29).unwrap().0.contains("ends in 29 days"));
        let week = 7 * 86_400_000;
        assert!(said(week, 31).unwrap().0.contains("ends in 24 days"));
    }

    #[test]
    fn why_it_was_not_renewed_is_told_with_it() {
        let status = TunnelStatus { renewal: Some("the gateway refused".to_owned()), ..up(0) };
        let now = SystemTime::now();
        let (reason, _) = warning(&status, Some(now + DAY * 3), now).unwrap();
        assert!(reason.ends_with("3 days: the gateway refused"), "{reason}");
    }
}
