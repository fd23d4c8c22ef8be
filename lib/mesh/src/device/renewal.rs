//! When this device asks for its next certificate, and what becomes of the answer. The key is new each time. The
//! identity it makes is only handed out here: it counts once somebody has stored it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use synesis_proto::mesh::v1;
use tokio::time::Instant;

use super::Backoff;
use crate::identity::{DeviceIdentity, DeviceKey, IdentityError, Validity, WallClock};

/// The date is looked at this often: clocks are set, and machines sleep.
const LOOK: Duration = Duration::from_secs(3600);
/// Between two tries. An answer that was not stored, or did not come, is asked for again the same way.
const RETRY: Backoff = Backoff { base: Duration::from_secs(60), cap: Duration::from_secs(6 * 3600) };

/// Why an answer made no identity.
#[derive(Debug, thiserror::Error)]
pub(super) enum RenewError {
    #[error("the gateway refused: {0}")]
    Refused(String),
    #[error("nobody asked for it")]
    Unasked,
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

pub(super) struct Renewal {
    identity: Arc<DeviceIdentity>,
    due: SystemTime,
    /// What the gateway's clock was ahead of ours, in milliseconds. When to ask is its business as much as ours, so a
    /// device that does not know the date asks in time too. Nothing else rests on it.
    offset_ms: i64,
    clock: WallClock,
    at: Instant,
    asked: Option<DeviceKey>,
    tries: u32,
}

impl Renewal {
    pub(super) fn new(
        identity: Arc<DeviceIdentity>,
        clock: WallClock,
        offset_ms: i64,
    ) -> Result<Self, IdentityError> {
        let due = identity.validity()?.renew_at();
        let mut renewal = Self { identity, due, offset_ms, clock, at: Instant::now(), asked: None, tries: 0 };
        renewal.at += renewal.wait();
        Ok(renewal)
    }

    /// When [`Self::ask`] is to be called.
    pub(super) fn at(&self) -> Instant {
        self.at
    }

    /// The wish for a new certificate, if it is time for it.
    pub(super) fn ask(&mut self) -> Result<Option<v1::Renew>, IdentityError> {
        let wait = self.wait();
        if !wait.is_zero() {
            self.at = Instant::now() + wait;
            return Ok(None);
        }
        let retry = RETRY.draw(self.tries, &mut rand::rng()).max(RETRY.base / 2);
        self.at = Instant::now() + retry;
        self.tries = self.tries.saturating_add(1);
        let key = DeviceKey::generate()?;
        let csr_der = key.csr_der()?.into();
        self.asked = Some(key);
        Ok(Some(v1::Renew { csr_der }))
    }

    /// What follows from an answer, or from other server CAs: an identity to be stored, if it is another one.
    pub(super) fn take(&mut self, renewed: v1::Renewed) -> Result<Option<Arc<DeviceIdentity>>, RenewError> {
        if let Some(problem) = renewed.problem {
            self.asked = None;
            let wait = Duration::from_millis(problem.retry_after_ms).min(RETRY.cap);
            self.at = self.at.max(Instant::now() + wait);
            return Err(RenewError::Refused(problem.message));
        }
        let mut changed = false;
        if !renewed.certificate_chain.is_empty() {
            let key = self.asked.take().ok_or(RenewError::Unasked)?;
            self.adopt(with_certificate(&self.identity, key, renewed.certificate_chain)?);
            changed = true;
        }
        changed |= self.trust(&renewed.server_ca, &renewed.retired);
        Ok(changed.then(|| self.identity.clone()))
    }

    /// The same for the server CAs in a welcome.
    pub(super) fn welcomed(&mut self, welcome: &v1::Welcome) -> Option<Arc<DeviceIdentity>> {
        self.trust(&welcome.server_ca, &welcome.retired).then(|| self.identity.clone())
    }

    fn trust(&mut self, named: &[Bytes], retired: &[Bytes]) -> bool {
        let trusting = self.identity.trusting(named, retired);
        let changed = trusting.is_some();
        if let Some(identity) = trusting {
            self.identity = Arc::new(identity);
        }
        changed
    }

    /// `due` stays: until the new identity is stored and this connection is left for another, asking goes on, rarely.
    fn adopt(&mut self, identity: DeviceIdentity) {
        self.identity = Arc::new(identity);
        self.at = Instant::now() + LOOK;
    }

    /// Until the next look at the date; zero when it is time.
    fn wait(&self) -> Duration {
        let offset = Duration::from_millis(self.offset_ms.unsigned_abs());
        let now = match self.offset_ms {
            0.. => self.clock.now().checked_add(offset),
            _ => self.clock.now().checked_sub(offset),
        };
        self.due.duration_since(now.unwrap_or(UNIX_EPOCH)).unwrap_or_default().min(LOOK)
    }
}

/// `identity` with another key and its certificate, which has to be one of the same device, and a later one.
pub(crate) fn with_certificate(
    identity: &DeviceIdentity,
    key: DeviceKey,
    chain: Vec<Bytes>,
) -> Result<DeviceIdentity, IdentityError> {
    let chain = chain.into_iter().map(|der| der.to_vec().into()).collect();
    let renewed = DeviceIdentity { key, chain, ..identity.clone() };
    renewed.check()?;
    let until = |identity: &DeviceIdentity| identity.validity().map(|Validity { until, .. }| until);
    if until(&renewed)? < until(identity)? {
        return Err(IdentityError::CertificatePem("it ends before the one it replaces".into()));
    }
    Ok(renewed)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use uuid::Uuid;

    use super::*;
    use crate::identity::{Ca, CaKind};

    struct Place {
        ca: Ca,
        identity: Arc<DeviceIdentity>,
        now: Arc<Mutex<SystemTime>>,
    }

    impl Place {
        fn new() -> Self {
            let domain = "test.example".parse().unwrap();
            let ca = Ca::generate(CaKind::Device, &domain).unwrap();
            let key = DeviceKey::generate().unwrap();
            let device_id = Uuid::from_u128(1);
            let chain = ca.sign_device_csr(&key.csr_der().unwrap(), device_id).unwrap().chain;
            let identity = DeviceIdentity {
                device_id,
                account: "acme".to_owned(),
                trust_domain: domain,
                key,
                ca: chain.clone(),
                chain,
                receipt_keys: Vec::new(),
                gateway: "127.0.0.1:1".to_owned(),
            };
            Self { ca, identity: Arc::new(identity), now: Arc::new(Mutex::new(SystemTime::now())) }
        }

        fn renewal(&self, offset_ms: i64) -> Renewal {
            let now = self.now.clone();
            let clock = WallClock::of(move || *now.lock().unwrap());
            Renewal::new(self.identity.clone(), clock, offset_ms).unwrap()
        }

        fn is_due(&self) {
            *self.now.lock().unwrap() = self.identity.validity().unwrap().renew_at();
        }

        fn answer(&self, renew: &v1::Renew, device: Uuid) -> v1::Renewed {
            let now = *self.now.lock().unwrap();
            let chain = self.ca.sign_device_csr_at(&renew.csr_der, device, now).unwrap().chain;
            let certificate_chain = chain.iter().map(|der| der.to_vec().into()).collect();
            v1::Renewed { certificate_chain, ..v1::Renewed::default() }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn before_its_time_nothing_is_asked_and_the_date_is_looked_at_every_hour() {
        let place = Place::new();
        let mut renewal = place.renewal(0);
        let start = Instant::now();
        assert_eq!(renewal.at(), start + LOOK);
        assert!(renewal.ask().unwrap().is_none());
        assert_eq!(renewal.at(), start + LOOK);
        place.is_due();
        assert!(renewal.ask().unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_gateways_date_decides_when_to_ask() {
        let place = Place::new();
        let year_ms = 365 * 86_400_000;
        assert_eq!(place.renewal(year_ms).at(), Instant::now());
        place.is_due();
        assert_eq!(place.renewal(-year_ms).at(), Instant::now() + LOOK);
        assert_eq!(place.renewal(i64::MIN).at(), Instant::now() + LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_that_come_to_nothing_are_repeated_ever_more_rarely() {
        let place = Place::new();
        place.is_due();
        let mut renewal = place.renewal(0);
        for attempt in 0..50 {
            assert!(renewal.ask().unwrap().is_some());
            let wait = renewal.at() - Instant::now();
            assert!(wait >= RETRY.base / 2 && wait <= RETRY.ceiling(attempt), "{attempt}: {wait:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_makes_an_identity_with_the_key_that_was_asked_for_last() {
        let place = Place::new();
        place.is_due();
        let mut renewal = place.renewal(0);
        let lost = renewal.ask().unwrap().unwrap();
        let asked = renewal.ask().unwrap().unwrap();
        let late = renewal.take(place.answer(&lost, place.identity.device_id));
        assert!(matches!(late, Err(RenewError::Identity(_))), "the key is forgotten");
        let asked = renewal.ask().unwrap().map_or(asked, |renew| renew);
        let renewed = renewal.take(place.answer(&asked, place.identity.device_id)).unwrap().unwrap();
        assert_ne!(renewed.chain, place.identity.chain);
        renewed.check().unwrap();
        let again = renewal.take(place.answer(&asked, place.identity.device_id));
        assert!(matches!(again, Err(RenewError::Unasked)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_of_another_device_or_one_that_ends_sooner_is_not_taken() {
        let place = Place::new();
        place.is_due();
        let mut renewal = place.renewal(0);
        let asked = renewal.ask().unwrap().unwrap();
        assert!(renewal.take(place.answer(&asked, Uuid::from_u128(2))).is_err());
        let asked = renewal.ask().unwrap().unwrap();
        *place.now.lock().unwrap() = SystemTime::now() - Duration::from_secs(86_400);
        assert!(renewal.take(place.answer(&asked, place.identity.device_id)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_with_a_time_is_waited_out() {
        let place = Place::new();
        place.is_due();
        let mut renewal = place.renewal(0);
        renewal.ask().unwrap();
        let mut problem = crate::kind::ErrorCode::RateLimited.problem("too often", "");
        problem.retry_after_ms = 3_600_000;
        let refused = renewal.take(v1::Renewed { problem: Some(problem), ..v1::Renewed::default() });
        assert!(matches!(refused, Err(RenewError::Refused(_))));
        assert!(renewal.at() >= Instant::now() + Duration::from_secs(3600));
    }
}
