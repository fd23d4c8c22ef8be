//! Changing the authorities while the gateway runs: a next CA is added beside the present one, takes over, and the former
//! one is retired. The gateway's own certificate is renewed the same way, by itself.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use synesis_mesh::gateway::{BindError, Dates, GatewayEndpoint, GatewayTls};
use synesis_mesh::identity::{Ca, CaKind, TrustDomain, WallClock, fingerprint};
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::authorities::{Authorities, Authority, Manifest, Standing};
use crate::failure::chain;
use crate::pki::{PRIVATE, PUBLIC, PkiError, write_new};

/// How often the gateway looks at the life of its own certificate.
const LOOK: Duration = Duration::from_secs(3600);

/// Why the authorities stay as they are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotationError {
    #[error("there is a second {0} CA already, {1}")]
    Underway(&'static str, String),
    #[error("there is no second {0} CA")]
    NoOther(&'static str),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("the changed certificates cannot be used")]
    Tls(#[from] BindError),
}

/// The word for a kind on the command line.
pub(crate) const fn word(kind: CaKind) -> &'static str {
    match kind {
        CaKind::Server => "server",
        CaKind::Device => "device",
    }
}

/// The authorities, and the only hand that changes them.
pub(crate) struct Rotation {
    folder: PathBuf,
    trust_domain: TrustDomain,
    dates: Dates,
    now: watch::Sender<Arc<Authorities>>,
    issuing: watch::Sender<Arc<Ca>>,
    endpoint: OnceLock<GatewayEndpoint>,
    changing: Mutex<()>,
}

impl Rotation {
    /// Over what was loaded from `folder`.
    pub(crate) fn new(folder: PathBuf, authorities: Authorities, dates: Dates) -> Self {
        let issuing = authorities.device.issuing.clone();
        Self {
            folder,
            trust_domain: issuing.trust_domain().clone(),
            dates,
            now: watch::Sender::new(Arc::new(authorities)),
            issuing: watch::Sender::new(issuing),
            endpoint: OnceLock::new(),
            changing: Mutex::new(()),
        }
    }

    /// What an endpoint is bound with, without the seed of its resets.
    pub(crate) fn tls(&self) -> GatewayTls {
        self.tls_of(&self.now.borrow())
    }

    fn tls_of(&self, authorities: &Authorities) -> GatewayTls {
        let also = authorities.also.iter().map(|shown| (shown.chain_pem.clone(), shown.key_pem.clone()));
        GatewayTls {
            chain_pem: authorities.shown.chain_pem.clone(),
            key_pem: authorities.shown.key_pem.clone(),
            also: also.collect(),
            device_ca_pem: authorities.device.trusted().map(|ca| ca.pem.as_str()).collect(),
            trust_domain: self.trust_domain.clone(),
            dates: self.dates.clone(),
            reset_seed: None,
        }
    }

    /// From here on every change is in force on this endpoint when it is announced.
    pub(crate) fn serve_on(&self, endpoint: GatewayEndpoint) {
        // Set once; a second endpoint would be another gateway.
        let _ = self.endpoint.set(endpoint);
    }

    /// The CA that signs devices, and each that takes its place.
    pub(crate) fn issuing(&self) -> watch::Receiver<Arc<Ca>> {
        self.issuing.subscribe()
    }

    /// The authorities, and every change.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Authorities>> {
        self.now.subscribe()
    }

    /// Makes a next CA, which is trusted at once and does not sign yet.
    pub(crate) fn add(&self, kind: CaKind) -> Result<Authority, RotationError> {
        let _changing = self.lock();
        let mut manifest = Manifest::read(&self.folder)?;
        let names = manifest.names_mut(kind);
        if let Some(other) = names.other() {
            return Err(RotationError::Underway(word(kind), other.clone()));
        }
        let ca = Ca::generate_at(kind, &self.trust_domain, self.dates.clock.now()).map_err(PkiError::Make)?;
        let name = format!("{}-ca-{}", word(kind), hex::encode(&ca.fingerprint()[..4]));
        let key = ca.key_pem().map_err(PkiError::Make)?;
        write_new(&self.file(&name, "key"), PRIVATE, &key)?;
        write_new(&self.file(&name, "pem"), PUBLIC, &ca.certificate_pem())?;
        names.trusted.push(name.clone());
        self.publish(&manifest)?;
        self.found(kind, &name)
    }

    /// Has the other trusted CA sign from now on. Again: back to the former one.
    pub(crate) fn switch(&self, kind: CaKind) -> Result<Authority, RotationError> {
        let _changing = self.lock();
        let mut manifest = Manifest::read(&self.folder)?;
        let names = manifest.names_mut(kind);
        let next = names.other().cloned().ok_or(RotationError::NoOther(word(kind)))?;
        names.issuing.clone_from(&next);
        if kind == CaKind::Server && !manifest.gateway.contains_key(&next) {
            let made = self.make_gateway(&next)?;
            manifest.gateway.insert(next.clone(), made);
        }
        self.publish(&manifest)?;
        self.found(kind, &next)
    }

    /// Trusts the CA that does not sign no longer, and destroys its key.
    pub(crate) fn retire(&self, kind: CaKind) -> Result<Authority, RotationError> {
        let _changing = self.lock();
        let mut manifest = Manifest::read(&self.folder)?;
        let names = manifest.names_mut(kind);
        let old = names.other().cloned().ok_or(RotationError::NoOther(word(kind)))?;
        names.trusted.retain(|name| *name != old);
        names.retired.push(old.clone());
        let shown = if kind == CaKind::Server { manifest.gateway.remove(&old) } else { None };
        self.publish(&manifest)?;
        self.remove(&old, &["key"]);
        if let Some(shown) = shown {
            self.remove(&shown, &["pem", "key"]);
        }
        self.found(kind, &old)
    }

    /// Renews the gateway's own certificate if two thirds of its life have passed. Says whether it did.
    pub(crate) fn renew_gateway(&self) -> Result<bool, RotationError> {
        let _changing = self.lock();
        if self.dates.clock.now() < self.now.borrow().shown.validity.renew_at() {
            return Ok(false);
        }
        let mut manifest = Manifest::read(&self.folder)?;
        let ca = manifest.server.issuing.clone();
        let made = self.make_gateway(&ca)?;
        let former = manifest.gateway.insert(ca, made);
        self.publish(&manifest)?;
        if let Some(former) = former {
            self.remove(&former, &["pem", "key"]);
        }
        tracing::info!("the gateway renewed its own certificate");
        Ok(true)
    }

    /// A new certificate of the gateway from a server CA; its name.
    fn make_gateway(&self, ca: &str) -> Result<String, PkiError> {
        let (pem, key) = (self.file(ca, "pem"), self.file(ca, "key"));
        let ca = Ca::from_pem(&crate::pki::read(&pem)?, &crate::pki::read_private(&key)?)
            .map_err(|source| PkiError::Identity { path: key, source })?;
        let issued = ca.issue_server_at(&[], self.dates.clock.now()).map_err(PkiError::Make)?;
        let name = format!("gateway-{}", hex::encode(uuid::Uuid::new_v4().as_bytes()));
        write_new(&self.file(&name, "key"), PRIVATE, &issued.key_pem)?;
        write_new(&self.file(&name, "pem"), PUBLIC, &issued.chain_pem)?;
        Ok(name)
    }

    /// Writes the manifest, which makes it so, and tells everybody.
    fn publish(&self, manifest: &Manifest) -> Result<(), RotationError> {
        manifest.write(&self.folder)?;
        let authorities = Arc::new(Authorities::load(&self.folder)?);
        if let Some(endpoint) = self.endpoint.get() {
            endpoint.renew_tls(&self.tls_of(&authorities))?;
        }
        self.issuing.send_replace(authorities.device.issuing.clone());
        self.now.send_replace(authorities);
        Ok(())
    }

    fn found(&self, kind: CaKind, name: &str) -> Result<Authority, RotationError> {
        let now = self.now.borrow();
        let found = now.line(kind).all.iter().find(|authority| authority.name == name);
        found.cloned().ok_or(RotationError::NoOther(word(kind)))
    }

    fn file(&self, name: &str, ending: &str) -> PathBuf {
        self.folder.join(format!("{name}.{ending}"))
    }

    /// Files that nothing names any more. One that stays is a matter for the operator, not for the change.
    fn remove(&self, name: &str, endings: &[&str]) {
        for ending in endings {
            let path = self.file(name, ending);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a file that is no longer used was not removed");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // A panic elsewhere leaves files, and the manifest says which of them count.
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server CAs that devices are to trust (in DER), and those they are to forget (fingerprints).
pub(crate) fn trust(authorities: &Authorities) -> (Vec<Bytes>, Vec<Bytes>) {
    let named = authorities.server.trusted().map(|ca| ca.certificate.clone().into());
    let retired = authorities.server.retired().map(|ca| ca.fingerprint.to_vec().into());
    (named.collect(), retired.collect())
}

/// The same, without what a device that trusts these CAs knows already: mostly nothing.
pub(crate) fn news(authorities: &Authorities, pinned: &[Bytes]) -> (Vec<Bytes>, Vec<Bytes>) {
    let (mut named, mut retired) = trust(authorities);
    named.retain(|ca| !pinned.iter().any(|pin| pin[..] == fingerprint(ca)));
    retired.retain(|gone| pinned.contains(gone));
    (named, retired)
}

/// The server CAs and what they are for: when this stays, devices have nothing to hear.
pub(crate) fn standing_of(authorities: &Authorities) -> Vec<(String, Standing)> {
    authorities.server.all.iter().map(|ca| (ca.name.clone(), ca.standing)).collect()
}

/// Looks after the gateway's own certificate.
pub(crate) struct Keeper(pub(crate) Arc<Rotation>);

#[async_trait]
impl Subsystem for Keeper {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let stopping = cx.stopping();
        cx.ready();
        loop {
            let rotation = Arc::clone(&self.0);
            match tokio::task::spawn_blocking(move || rotation.renew_gateway()).await? {
                Ok(_) => cx.healthy(),
                Err(error) => {
                    tracing::error!(error = chain(&error), "the gateway's certificate was not renewed");
                    cx.degraded(
                        format!("the gateway's certificate was not renewed: {}", chain(&error)),
                        "make pki.dir writable for the gateway; it tries again every hour",
                    );
                }
            }
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                () = sleep(LOOK) => {}
            }
        }
    }
}

/// The gateway's clock, as the mesh takes it.
pub(crate) fn dates(clock: &crate::control_plane::Clock, grace: Duration) -> Dates {
    let clock = clock.clone();
    let wall = WallClock::of(move || {
        let since = Duration::from_millis(u64::try_from(clock.now_ms()).unwrap_or_default());
        std::time::SystemTime::UNIX_EPOCH + since
    });
    Dates { clock: wall, grace }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::SystemTime;

    use tempfile::TempDir;

    use super::*;
    use crate::pki;

    struct Place {
        folder: TempDir,
        rotation: Rotation,
        days: Arc<AtomicU64>,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            pki::make(&folder.path().join("pki"), &"test.internal".parse().unwrap()).unwrap();
            let days = Arc::new(AtomicU64::new(0));
            let authorities = Authorities::load(&folder.path().join("pki")).unwrap();
            let hand = Arc::clone(&days);
            let clock = WallClock::of(move || {
                SystemTime::now() + Duration::from_secs(hand.load(Ordering::SeqCst) * 86_400)
            });
            let dates = Dates { clock, ..Dates::default() };
            let rotation = Rotation::new(folder.path().join("pki"), authorities, dates);
            Self { folder, rotation, days }
        }

        fn pki(&self) -> PathBuf {
            self.folder.path().join("pki")
        }

        /// As a restarted gateway finds it.
        fn reloaded(&self) -> Vec<Standing> {
            let authorities = pki::load(&self.pki(), "test.internal").unwrap().authorities;
            authorities.server.all.iter().map(|ca| ca.standing).collect()
        }
    }

    fn files(folder: &Path, ending: &str) -> usize {
        let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.extension().is_some_and(|extension| extension == ending)).count()
    }

    #[test]
    fn a_ca_is_added_takes_over_and_the_former_one_is_retired() {
        let place = Place::new();
        let keys = files(&place.pki(), "key");
        let next = place.rotation.add(CaKind::Server).unwrap();
        assert_eq!(place.reloaded(), [Standing::Issuing, Standing::Trusted]);
        assert!(matches!(place.rotation.add(CaKind::Server), Err(RotationError::Underway(..))));

        place.rotation.switch(CaKind::Server).unwrap();
        assert_eq!(place.reloaded(), [Standing::Trusted, Standing::Issuing]);
        assert_eq!(place.rotation.tls().also.len(), 1, "for devices that know only the former one");
        let (named, retired) = trust(&place.rotation.watch().borrow());
        assert_eq!((named.len(), retired.len()), (2, 0));

        let old = place.rotation.retire(CaKind::Server).unwrap();
        assert_ne!(old.name, next.name);
        assert_eq!(place.reloaded(), [Standing::Retired, Standing::Issuing]);
        assert!(place.rotation.tls().also.is_empty());
        assert_eq!(files(&place.pki(), "key"), keys, "no key is left that nothing needs");
        let (named, retired) = trust(&place.rotation.watch().borrow());
        assert_eq!(named, [Bytes::from(next.certificate)]);
        assert_eq!(retired, [Bytes::from(old.fingerprint.to_vec())]);
        assert!(matches!(place.rotation.retire(CaKind::Server), Err(RotationError::NoOther(_))));
        assert!(matches!(place.rotation.switch(CaKind::Server), Err(RotationError::NoOther(_))));
    }

    #[test]
    fn a_switch_can_be_taken_back() {
        let place = Place::new();
        place.rotation.add(CaKind::Device).unwrap();
        let first = place.rotation.issuing().borrow().fingerprint();
        place.rotation.switch(CaKind::Device).unwrap();
        assert_ne!(place.rotation.issuing().borrow().fingerprint(), first);
        place.rotation.switch(CaKind::Device).unwrap();
        assert_eq!(place.rotation.issuing().borrow().fingerprint(), first);
    }

    #[test]
    fn the_gateways_certificate_is_renewed_after_two_thirds_of_its_life_and_not_before() {
        let place = Place::new();
        assert!(!place.rotation.renew_gateway().unwrap());
        place.days.store(4 * 365, Ordering::SeqCst);
        let before = place.rotation.tls().chain_pem;
        assert!(place.rotation.renew_gateway().unwrap());
        assert_ne!(place.rotation.tls().chain_pem, before);
        assert!(!place.rotation.renew_gateway().unwrap());
        let again = pki::load(&place.pki(), "test.internal").unwrap().authorities;
        assert_eq!(again.shown.chain_pem, place.rotation.tls().chain_pem);
        assert!(!place.pki().join("gateway.key").exists());
    }

    #[test]
    fn files_that_no_manifest_names_change_nothing() {
        let place = Place::new();
        // The power went before the manifest was replaced.
        fs::write(place.pki().join("server-ca-0badcafe.key"), "half").unwrap();
        fs::write(place.pki().join("authorities.new"), "{").unwrap();
        assert_eq!(place.reloaded(), [Standing::Issuing]);
        place.rotation.add(CaKind::Server).unwrap();
        assert_eq!(place.reloaded(), [Standing::Issuing, Standing::Trusted]);
    }

    #[test]
    fn a_damaged_manifest_is_an_error_that_names_it() {
        let place = Place::new();
        place.rotation.add(CaKind::Server).unwrap();
        let path = place.pki().join("authorities.json");
        let good = fs::read_to_string(&path).unwrap();
        for bad in [
            "{}".to_owned(),
            good[..good.len() / 2].to_owned(),
            good.replace("\"issuing\": \"server-ca\"", "\"issuing\": \"../server-ca\""),
            good.replace("\"format\": 1", "\"format\": 9"),
        ] {
            fs::write(&path, bad).unwrap();
            let error = pki::load(&place.pki(), "test.internal").err().unwrap();
            assert!(error.to_string().contains("authorities.json"), "{error}");
        }
    }
}
