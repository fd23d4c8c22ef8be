//! What one device may ask for: connections, and streams by kind. The table belongs to the gateway, not to a session,
//! so that reconnecting does not win anything.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use synesis_mesh::kind::StreamKind;
use tokio::time::Instant;
use uuid::Uuid;

use super::bounded::Bounded;
use super::rate::{Bucket, Rate};
use crate::control_plane::AdapterDigest;

/// How often a device may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeviceRates {
    pub(crate) connections: Rate,
    pub(crate) asks: Rate,
    pub(crate) adapter_uploads: Rate,
    pub(crate) others: Rate,
}

/// What is limited apart from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Connection,
    Ask,
    AdapterUpload,
    Other,
}

/// Uploads of one device that are remembered, so that going on with one is not counted again.
const UPLOADS: usize = 32;

impl Class {
    /// What opening a stream counts as. An upload is counted once it is known of what: see [`Devices::take_upload`].
    pub(crate) fn of(kind: StreamKind) -> Self {
        match kind {
            StreamKind::Ask => Self::Ask,
            _ => Self::Other,
        }
    }

    /// What there were too many of, for people.
    pub(crate) const fn plural(self) -> &'static str {
        match self {
            Self::Connection => "connections",
            Self::Ask => "escalated requests",
            Self::AdapterUpload => "adapter uploads",
            Self::Other => "requests",
        }
    }
}

#[derive(Debug, Default)]
struct Used {
    connections: Bucket,
    asks: Bucket,
    adapter_uploads: Bucket,
    others: Bucket,
    /// The newest uploads, by digest.
    uploads: VecDeque<AdapterDigest>,
}

/// What each device used lately. Devices that were not here for long are forgotten when there are too many; by then
/// their buckets are full again, unless more devices than the table holds come within the same hour.
#[derive(Debug)]
pub(crate) struct Devices {
    rates: DeviceRates,
    used: Mutex<Bounded<Uuid, Used>>,
}

impl Devices {
    pub(crate) fn new(rates: DeviceRates, most: usize) -> Self {
        Self { rates, used: Mutex::new(Bounded::new(most)) }
    }

    /// Takes one of `class` for the device, or says how long it has to wait.
    pub(crate) fn take(&self, device: Uuid, class: Class, now: Instant) -> Result<(), Duration> {
        // Every change is a single assignment: a panic elsewhere leaves nothing half done.
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used = used.entry(device);
        let (bucket, rate) = match class {
            Class::Connection => (&mut used.connections, &self.rates.connections),
            Class::Ask => (&mut used.asks, &self.rates.asks),
            Class::AdapterUpload => (&mut used.adapter_uploads, &self.rates.adapter_uploads),
            Class::Other => (&mut used.others, &self.rates.others),
        };
        bucket.take(rate, now)
    }

    /// The same for an upload of this content. One that was begun before is gone on with, which costs nothing.
    pub(crate) fn take_upload(
        &self,
        device: Uuid,
        digest: &AdapterDigest,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let used = used.entry(device);
        if used.uploads.contains(digest) {
            return Ok(());
        }
        used.adapter_uploads.take(&self.rates.adapter_uploads, now)?;
        used.uploads.truncate(UPLOADS - 1);
        used.uploads.push_front(digest.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: DeviceRates = DeviceRates {
        connections: Rate::per_minute(1),
        asks: Rate::per_minute(2),
        adapter_uploads: Rate::per_hour(1),
        others: Rate::per_minute(3),
    };

    fn taken(devices: &Devices, device: u128, class: Class, now: Instant) -> usize {
        (0..10).filter(|_| devices.take(Uuid::from_u128(device), class, now).is_ok()).count()
    }

    #[test]
    fn each_class_and_each_device_has_a_limit_of_its_own() {
        let (devices, now) = (Devices::new(RATES, 100), Instant::now());
        for device in [1, 2] {
            let classes = [Class::Connection, Class::Ask, Class::AdapterUpload, Class::Other];
            assert_eq!(classes.map(|class| taken(&devices, device, class, now)), [1, 2, 1, 3]);
        }
        let an_hour_later = now + Duration::from_secs(3600);
        assert_eq!(taken(&devices, 1, Class::AdapterUpload, an_hour_later), 1);
    }

    #[test]
    fn the_kinds_of_streams_are_sorted_into_classes() {
        assert_eq!(Class::of(StreamKind::Ask), Class::Ask);
        assert_eq!(Class::of(StreamKind::Account), Class::Other);
        assert_eq!(Class::of(StreamKind::AdapterPush), Class::Other);
    }

    #[test]
    fn going_on_with_an_upload_is_no_new_one() {
        let (devices, now) = (Devices::new(RATES, 100), Instant::now());
        let take = |digit: &str, now| {
            let digest = AdapterDigest::parse(&digit.repeat(64)).unwrap();
            devices.take_upload(Uuid::from_u128(1), &digest, now)
        };
        assert_eq!(take("a", now), Ok(()));
        assert_eq!(take("a", now), Ok(()));
        assert!(take("b", now).is_err());
        assert_eq!(take("b", now + Duration::from_secs(3600)), Ok(()));
        assert_eq!(take("a", now), Ok(()));
    }
}
