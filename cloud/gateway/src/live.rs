//! Who is connected now. A revocation finds its device here and ends its connection at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use synesis_mesh::gateway::DeviceReport;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A device may for a moment have two sessions: the new one, and the one whose end was not noticed yet. On a path that
/// comes and goes it may be a few more; beyond this many, a newer one ends the oldest.
const MOST_PER_DEVICE: usize = 4;

/// The live sessions. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Live(Arc<Mutex<Sessions>>);

#[derive(Default)]
struct Sessions {
    entries: BTreeMap<(Uuid, u64), Entry>,
    next: u64,
}

struct Entry {
    revoked: CancellationToken,
    superseded: CancellationToken,
    /// Present once the device was welcomed.
    reports: Option<watch::Receiver<DeviceReport>>,
}

impl Live {
    /// Enters a device that is coming in; it stays until the [`Presence`] is dropped. The oldest of too many sessions
    /// of the device is told to end.
    pub(crate) fn enter(&self, device: Uuid) -> Presence {
        let (revoked, superseded) = (CancellationToken::new(), CancellationToken::new());
        let mut sessions = self.lock();
        let key = (device, sessions.next);
        sessions.next += 1;
        let entry = Entry { revoked: revoked.clone(), superseded: superseded.clone(), reports: None };
        sessions.entries.insert(key, entry);
        // Those told before are on their way out, and count no more.
        let staying = sessions.of(device).rev().filter(|(_, entry)| !entry.superseded.is_cancelled());
        for (_, entry) in staying.skip(MOST_PER_DEVICE) {
            entry.superseded.cancel();
        }
        Presence { live: self.clone(), key, revoked, superseded }
    }

    /// Ends every session of the device; says whether it was connected.
    pub(crate) fn revoke(&self, device: Uuid) -> bool {
        let sessions = self.lock();
        let mut connected = false;
        for (_, entry) in sessions.of(device) {
            entry.revoked.cancel();
            connected |= entry.reports.is_some();
        }
        connected
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.lock().entries.len()
    }

    /// `None`: not connected. Inside, the newest round trip, when one was measured.
    pub(crate) fn round_trip(&self, device: Uuid) -> Option<Option<Duration>> {
        let sessions = self.lock();
        let reports = sessions.of(device).rev().find_map(|(_, entry)| entry.reports.as_ref())?;
        let report = reports.borrow();
        Some(report.gateway_rtt.or(report.device_rtt))
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Every change is complete when the lock is let go, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    fn of(&self, device: Uuid) -> impl DoubleEndedIterator<Item = (&(Uuid, u64), &Entry)> {
        self.entries.range((device, 0)..=(device, u64::MAX))
    }
}

/// A device's entry, for as long as it lives.
pub(crate) struct Presence {
    live: Live,
    key: (Uuid, u64),
    revoked: CancellationToken,
    superseded: CancellationToken,
}

impl Presence {
    /// The device was welcomed; its reports say how it is.
    pub(crate) fn is_up(&self, reports: watch::Receiver<DeviceReport>) {
        if let Some(entry) = self.live.lock().entries.get_mut(&self.key) {
            entry.reports = Some(reports);
        }
    }

    /// Resolves when the device's identity was taken back.
    pub(crate) async fn revoked(&self) {
        self.revoked.cancelled().await;
    }

    /// Resolves when newer sessions of the device have taken this one's place.
    pub(crate) async fn superseded(&self) {
        self.superseded.cancelled().await;
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.live.lock().entries.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports() -> watch::Receiver<DeviceReport> {
        watch::channel(DeviceReport { device_rtt: Some(Duration::from_millis(7)), ..DeviceReport::default() })
            .1
    }

    #[tokio::test]
    async fn a_revocation_reaches_every_session_of_the_device_and_no_other() {
        let live = Live::default();
        let (device, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (old, new, stranger) = (live.enter(device), live.enter(device), live.enter(other));
        new.is_up(reports());
        assert!(live.revoke(device));
        old.revoked().await;
        new.revoked().await;
        assert!(!stranger.revoked.is_cancelled());
    }

    #[test]
    fn the_oldest_of_too_many_sessions_of_a_device_ends_when_a_newer_one_comes() {
        let live = Live::default();
        let (device, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let stranger = live.enter(other);
        let mut sessions: Vec<Presence> = (0..4).map(|_| live.enter(device)).collect();
        let ended =
            |sessions: &[Presence]| sessions.iter().map(|s| s.superseded.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(ended(&sessions), [false; 4]);
        sessions.push(live.enter(device));
        assert_eq!(ended(&sessions), [true, false, false, false, false]);
        // One that ended by itself makes room.
        sessions.remove(2);
        sessions.push(live.enter(device));
        assert_eq!(ended(&sessions), [true, false, false, false, false]);
        assert_eq!(ended(&[stranger]), [false]);
    }

    #[test]
    fn a_device_that_is_still_coming_in_does_not_count_as_connected() {
        let live = Live::default();
        let device = Uuid::from_u128(1);
        let presence = live.enter(device);
        assert_eq!(live.round_trip(device), None);
        assert!(!live.revoke(device));
        assert!(presence.revoked.is_cancelled(), "but it does not get in either");
    }

    #[test]
    fn a_device_is_gone_when_its_presence_is_dropped() {
        let live = Live::default();
        let device = Uuid::from_u128(1);
        let presence = live.enter(device);
        presence.is_up(reports());
        assert_eq!(live.round_trip(device), Some(Some(Duration::from_millis(7))));
        drop(presence);
        assert_eq!(live.round_trip(device), None);
    }
}
