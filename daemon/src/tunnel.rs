//! The tunnel as a subsystem of the daemon: keeps it running, translates what it says for `status`, and holds this
//! device's identity, which enrolment sets and unenrolment takes away.

use std::path::PathBuf;
use std::sync::Arc;

use synesis_mesh::device::{
    self, EnrollError, PingError, Tunnel, TunnelConfig, TunnelDriver, TunnelHandle, TunnelStatus, enroll,
};
use synesis_mesh::identity::{DeviceIdentity, IdentityError};
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::sync::watch;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::journal::{DeviceJournal, JournalError};
use crate::node::{TunnelState, TunnelView};

/// `name/version`, as gateways see it.
const AGENT: &str = concat!("synesisd/", env!("CARGO_PKG_VERSION"));

/// Why this device's identity cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// It has one already.
    #[error("this device is enrolled already, as {0}")]
    AlreadyEnrolled(String),
    /// It has none.
    #[error("this device is not enrolled")]
    NotEnrolled,
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

/// A ping that came to nothing.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unanswered(#[from] pub PingError);

type Changed = Result<Option<Arc<DeviceIdentity>>, EnrolmentError>;

/// Who this device is. Clones share one.
#[derive(Debug, Clone)]
pub struct Identity {
    folder: PathBuf,
    current: Arc<watch::Sender<Option<Arc<DeviceIdentity>>>>,
    /// One change at a time. It is a task, so that a caller who leaves in the middle leaves no token burnt for nothing,
    /// and no files that say something else than the tunnel does.
    changing: Arc<tokio::sync::Mutex<JoinSet<Changed>>>,
    tunnel: TunnelHandle,
    journal: DeviceJournal,
}

impl Identity {
    /// Enrols at `gateway` (`host:port`), trusting only the CA in `ca_pem`, and brings the tunnel up.
    ///
    /// # Errors
    /// When it is enrolled already, the gateway refuses, or the identity cannot be stored.
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

    /// Forgets the identity. Receipts stay.
    ///
    /// # Errors
    /// When there is none, or its files cannot be removed.
    pub async fn unenroll(&self) -> Result<(), EnrolmentError> {
        let identity = self.clone();
        self.change(async move { identity.put_off().await }).await.map(drop)
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
        let identity = Arc::new(enroll(gateway, ca_pem, token, AGENT).await?);
        self.journal.pin(&identity.receipt_keys).await?;
        let (folder, kept) = (self.folder.clone(), Arc::clone(&identity));
        blocking(move || kept.save(&folder)).await?;
        tracing::info!(device = %identity.device_id, account = identity.account, gateway, "enrolled");
        self.set(Some(Arc::clone(&identity)));
        Ok(Some(identity))
    }

    async fn put_off(&self) -> Changed {
        if self.current.borrow().is_none() {
            return Err(EnrolmentError::NotEnrolled);
        }
        let folder = self.folder.clone();
        blocking(move || DeviceIdentity::remove(&folder)).await?;
        self.set(None);
        tracing::info!("unenrolled");
        Ok(None)
    }

    fn set(&self, identity: Option<Arc<DeviceIdentity>>) {
        self.current.send_replace(identity.clone());
        self.tunnel.set_identity(identity);
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

/// Keeps the tunnel running and its view current.
#[derive(Debug)]
pub struct TunnelKeeper {
    driver: TunnelDriver,
    handle: TunnelHandle,
    view: Arc<watch::Sender<TunnelView>>,
    device_id: Arc<watch::Sender<Option<String>>>,
    identity: watch::Receiver<Option<Arc<DeviceIdentity>>>,
}

/// Everything that comes out of the tunnel's making.
#[derive(Debug)]
pub struct TunnelParts {
    /// To use it.
    pub handle: TunnelHandle,
    /// To change who this device is.
    pub identity: Identity,
    /// For `status`.
    pub view: watch::Receiver<TunnelView>,
    /// For `status`.
    pub device_id: watch::Receiver<Option<String>>,
    /// To run it.
    pub keeper: TunnelKeeper,
}

/// Reads the identity in `folder`, if there is one, and makes a tunnel that does not run yet.
///
/// # Errors
/// When there is an identity that cannot be read: better no start than a device that silently forgot who it is.
pub fn prepare(
    folder: PathBuf,
    endpoints: Vec<String>,
    vitals: watch::Receiver<Option<synesis_proto::mesh::v1::Vitals>>,
    journal: DeviceJournal,
) -> Result<TunnelParts, IdentityError> {
    let identity = DeviceIdentity::load(&folder)?.map(Arc::new);
    let mut config = TunnelConfig::new(AGENT, vitals);
    config.endpoints = endpoints;
    let (handle, driver) = Tunnel::new(config, identity.clone());
    let view = Arc::new(watch::Sender::new(view_of(&handle.status().borrow())));
    let device_id =
        Arc::new(watch::Sender::new(identity.as_ref().map(|identity| identity.device_id.to_string())));
    let current = Arc::new(watch::Sender::new(identity));
    let keeper = TunnelKeeper {
        driver,
        handle: handle.clone(),
        view: Arc::clone(&view),
        device_id: Arc::clone(&device_id),
        identity: current.subscribe(),
    };
    let identity = Identity { folder, current, changing: Arc::default(), tunnel: handle.clone(), journal };
    Ok(TunnelParts { handle, identity, view: view.subscribe(), device_id: device_id.subscribe(), keeper })
}

#[async_trait::async_trait]
impl Subsystem for TunnelKeeper {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        // Ready never depends on the network.
        cx.ready();
        let Self { driver, handle, view, device_id, identity } = self;
        let report = async {
            let mut status = handle.status();
            let mut identity = identity.clone();
            loop {
                let newest = view_of(&status.borrow_and_update());
                tell_health(cx, &newest);
                view.send_if_modified(|old| std::mem::replace(old, newest.clone()) != newest);
                let id = identity.borrow_and_update().as_ref().map(|identity| identity.device_id.to_string());
                device_id.send_if_modified(|old| {
                    let changed = *old != id;
                    *old = id;
                    changed
                });
                tokio::select! {
                    changed = status.changed() => if changed.is_err() { return },
                    changed = identity.changed() => if changed.is_err() { return },
                }
            }
        };
        tokio::select! {
            () = driver.run(cx.stopping()) => Ok(()),
            () = report => Err("the tunnel's status ended".into()),
        }
    }
}

/// A box that is not enrolled is complete; one that is enrolled and not connected is degraded.
fn tell_health(cx: &Context, view: &TunnelView) {
    match view.state {
        TunnelState::Up | TunnelState::Unenrolled => cx.healthy(),
        _ => cx.degraded(view.reason.clone(), view.next_step.clone()),
    }
}

fn view_of(status: &TunnelStatus) -> TunnelView {
    let state = match status.state {
        device::TunnelState::Unenrolled => TunnelState::Unenrolled,
        device::TunnelState::Offline => TunnelState::Offline,
        device::TunnelState::Connecting => TunnelState::Connecting,
        device::TunnelState::Up => TunnelState::Up,
        device::TunnelState::Draining => TunnelState::Draining,
        device::TunnelState::Backoff => TunnelState::Backoff,
        device::TunnelState::Revoked => TunnelState::Revoked,
    };
    let (reason, next_step) = match state {
        TunnelState::Up => (String::new(), String::new()),
        _ => (
            status.reason.clone().unwrap_or_else(|| default_reason(state).to_owned()),
            status.next_step.clone().unwrap_or_else(|| default_next_step(state).to_owned()),
        ),
    };
    TunnelView {
        state,
        gateway: status.gateway.clone().unwrap_or_default(),
        rtt: status.rtt,
        connected_since: status.connected_since,
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
