//! Who this device is: enrolment sets it, unenrolment takes it away, and a stored identity that cannot be read waits
//! for a person.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use synesis_mesh::device::{EnrollError, Fallback, TunnelHandle, TunnelState, enroll_over};
use synesis_mesh::identity::{DeviceIdentity, IdentityError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::AGENT;
use crate::journal::{DeviceJournal, JournalError};
use crate::log::chain;

/// A stored identity that cannot be read, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub next_step: String,
}

impl Damage {
    fn new(error: &IdentityError, folder: &Path) -> Self {
        let folder = folder.display();
        Self {
            reason: format!("the identity cannot be read: {}", chain(error)),
            next_step: format!(
                "restore {folder} from a backup and restart synesisd, or run `synctl unenroll` and enrol again"
            ),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Why this device's identity cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// It has one already.
    #[error("this device is enrolled already, as {0}")]
    AlreadyEnrolled(String),
    /// It has none.
    #[error("this device is not enrolled")]
    NotEnrolled,
    /// It has one that cannot be read.
    #[error("{0}")]
    Unreadable(Damage),
    /// Only the present identity can ask for the receipts that are missing.
    #[error("{0} of its requests wait for their receipts, which only this identity can ask for")]
    ReceiptsOpen(usize),
    /// The gateway or its certificate said no.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    /// The keys for its receipts cannot be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The identity cannot be read or stored.
    #[error("the identity cannot be stored or removed")]
    Store(#[source] IdentityError),
    /// The daemon ends.
    #[error("synesisd is stopping, and did not finish this")]
    Closing,
}

type Changed = Result<Option<Arc<DeviceIdentity>>, EnrolmentError>;

/// Who this device is. Clones share one.
#[derive(Debug, Clone)]
pub struct Identity {
    folder: PathBuf,
    /// For the enrolment itself.
    fallback: Fallback,
    current: Arc<watch::Sender<Option<Arc<DeviceIdentity>>>>,
    damage: Arc<watch::Sender<Option<Damage>>>,
    /// One change at a time. It is a task, so that a caller who leaves in the middle leaves no token burnt for nothing,
    /// and no files that say something else than the tunnel does.
    changing: Arc<tokio::sync::Mutex<JoinSet<Changed>>>,
    tunnel: TunnelHandle,
    journal: DeviceJournal,
}

impl Identity {
    /// What is stored in `folder`. An identity that cannot be read is none to work with, and is not forgotten either:
    /// a person decides what becomes of it, and local answers go on meanwhile.
    pub(super) fn stored(folder: &Path) -> (Option<Arc<DeviceIdentity>>, Option<Damage>) {
        match DeviceIdentity::load(folder) {
            Ok(identity) => (identity.map(Arc::new), None),
            Err(error) => {
                let damage = Damage::new(&error, folder);
                tracing::error!(next_step = damage.next_step, "{damage}");
                (None, Some(damage))
            }
        }
    }

    /// Over what was [`Identity::stored`] in `folder`.
    pub(super) fn new(
        folder: PathBuf,
        (identity, damage): (Option<Arc<DeviceIdentity>>, Option<Damage>),
        fallback: Fallback,
        tunnel: TunnelHandle,
        journal: DeviceJournal,
    ) -> Self {
        let current = Arc::new(watch::Sender::new(identity));
        let damage = Arc::new(watch::Sender::new(damage));
        Self { folder, fallback, current, damage, changing: Arc::default(), tunnel, journal }
    }

    /// Enrols at `gateway` (`host:port`), trusting only the CA in `ca_pem`, and brings the tunnel up.
    ///
    /// # Errors
    /// When it is enrolled already (even if that identity cannot be read), the gateway refuses, or the identity cannot
    /// be stored.
    pub async fn enroll(
        &self,
        gateway: &str,
        ca_pem: &[u8],
        token: &str,
    ) -> Result<Arc<DeviceIdentity>, EnrolmentError> {
        let (gateway, ca_pem, token) =
            (gateway.to_owned(), ca_pem.to_owned(), Zeroizing::new(token.to_owned()));
        let identity = self.clone();
        let enrolled = self.change(async move { identity.take_on(&gateway, &ca_pem, &token).await }).await?;
        enrolled.ok_or(EnrolmentError::NotEnrolled)
    }

    /// Forgets the identity, readable or not. Receipts stay. Requests whose receipts nobody can ask for any more,
    /// because the gateway revoked the identity or it cannot be read, are closed as abandoned; with `force` all are.
    ///
    /// # Errors
    /// When there is none, it still has receipts to ask for, or its files cannot be removed.
    pub async fn unenroll(&self, force: bool) -> Result<(), EnrolmentError> {
        let identity = self.clone();
        self.change(async move { identity.put_off(force).await }).await.map(drop)
    }

    async fn change(&self, work: impl Future<Output = Changed> + Send + 'static) -> Changed {
        let mut changing = self.changing.lock().await;
        // One that was left behind comes first.
        while changing.join_next().await.is_some() {}
        changing.spawn(work);
        match changing.join_next().await {
            Some(Ok(changed)) => changed,
            Some(Err(_)) | None => Err(EnrolmentError::Closing),
        }
    }

    async fn take_on(&self, gateway: &str, ca_pem: &[u8], token: &str) -> Changed {
        if let Some(current) = self.current.borrow().as_ref() {
            return Err(EnrolmentError::AlreadyEnrolled(current.device_id.to_string()));
        }
        if let Some(damage) = self.damage.borrow().clone() {
            return Err(EnrolmentError::Unreadable(damage));
        }
        let identity = Arc::new(enroll_over(gateway, ca_pem, token, AGENT, &self.fallback).await?);
        self.journal.pin(&identity.receipt_keys).await?;
        let (folder, kept) = (self.folder.clone(), Arc::clone(&identity));
        blocking(move || kept.save(&folder)).await?;
        tracing::info!(device = %identity.device_id, account = identity.account, gateway, "enrolled");
        self.set(Some(Arc::clone(&identity)));
        // An identity that was lost with its folder, and could not be put off, has nobody to settle its requests.
        if let Err(error) = self.journal.abandon(Some(&identity.device_id.to_string())).await {
            tracing::error!(error = chain(&error), "the requests of a lost identity stay open");
        }
        Ok(Some(identity))
    }

    /// Stores what the gateway renews, and has the tunnel use it. An identity that cannot be stored is not used: the present
    /// one goes on, and the next answer is another chance.
    pub(super) async fn follow(&self) {
        let mut renewals = self.tunnel.renewals();
        // What came before is either stored or old.
        renewals.mark_unchanged();
        while renewals.changed().await.is_ok() {
            let Some(renewed) = renewals.borrow_and_update().clone() else { continue };
            let identity = self.clone();
            match self.change(async move { identity.renew(renewed).await }).await {
                Ok(_) => {}
                Err(error) => tracing::error!(
                    error = chain(&error),
                    "the renewed identity was not stored; the present one goes on"
                ),
            }
        }
    }

    async fn renew(&self, renewed: Arc<DeviceIdentity>) -> Changed {
        let current = self.current.borrow().clone();
        // It may have been put off, or be another device by now.
        if current.is_none_or(|current| current.device_id != renewed.device_id) {
            return Ok(None);
        }
        let (folder, kept) = (self.folder.clone(), Arc::clone(&renewed));
        blocking(move || kept.save(&folder)).await?;
        tracing::info!(device = %renewed.device_id, trusted = renewed.ca.len(), "identity renewed");
        self.set(Some(Arc::clone(&renewed)));
        Ok(Some(renewed))
    }

    async fn put_off(&self, force: bool) -> Changed {
        let current = self.current.borrow().clone();
        let settling = match &current {
            Some(_) if force || self.revoked() => None,
            Some(identity) => Some(identity.device_id.to_string()),
            None if self.damage.borrow().is_some() => None,
            None => return Err(EnrolmentError::NotEnrolled),
        };
        self.settled(settling.as_deref())?;
        // Nothing is sent from here on.
        self.set(None);
        if let Err(error) = self.forget(settling.as_deref()).await {
            self.set(current);
            return Err(error);
        }
        self.damage.send_replace(None);
        tracing::info!("unenrolled");
        Ok(None)
    }

    /// Whether nothing is open that `settling`, if there is one, can still settle.
    fn settled(&self, settling: Option<&str>) -> Result<(), EnrolmentError> {
        match settling.map_or(0, |device| self.journal.open_of(device)) {
            0 => Ok(()),
            open => Err(EnrolmentError::ReceiptsOpen(open)),
        }
    }

    async fn forget(&self, settling: Option<&str>) -> Result<(), EnrolmentError> {
        // Again: one may have begun since.
        self.settled(settling)?;
        // Before the files: what they could settle must not be forgotten while they are still there.
        self.journal.abandon(settling).await?;
        let folder = self.folder.clone();
        blocking(move || DeviceIdentity::remove(&folder)).await
    }

    fn revoked(&self) -> bool {
        self.tunnel.status().borrow().state == TunnelState::Revoked
    }

    fn set(&self, identity: Option<Arc<DeviceIdentity>>) {
        self.current.send_replace(identity.clone());
        self.tunnel.set_identity(identity);
    }

    /// Whether there is an identity to work with.
    ///
    /// # Errors
    /// There is none, or one that cannot be read.
    pub fn present(&self) -> Result<(), EnrolmentError> {
        match (&*self.current.borrow(), &*self.damage.borrow()) {
            (Some(_), _) => Ok(()),
            (None, Some(damage)) => Err(EnrolmentError::Unreadable(damage.clone())),
            (None, None) => Err(EnrolmentError::NotEnrolled),
        }
    }

    /// Why the stored identity cannot be read, if that is so, until it is put off.
    pub fn damage(&self) -> watch::Receiver<Option<Damage>> {
        self.damage.subscribe()
    }

    /// The identity, and every change of it.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<DeviceIdentity>>> {
        self.current.subscribe()
    }
}

/// File work off the event loop.
async fn blocking(
    work: impl FnOnce() -> Result<(), IdentityError> + Send + 'static,
) -> Result<(), EnrolmentError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| EnrolmentError::Closing)?;
    done.map_err(EnrolmentError::Store)
}
