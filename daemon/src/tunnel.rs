//! The tunnel as a subsystem of the daemon: keeps it running, and translates what it says for `status`.

mod identity;
#[cfg(test)]
mod tests;
mod view;

use std::path::PathBuf;
use std::sync::Arc;

use synesis_mesh::device::{Fallback, PingError, Proxy, Tunnel, TunnelConfig, TunnelDriver, TunnelHandle};
use synesis_mesh::identity::DeviceIdentity;
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::sync::watch;

use crate::config;
use crate::journal::DeviceJournal;
use crate::node::{TunnelState, TunnelView};
pub use identity::{Damage, EnrolmentError, Identity};
use view::view_of;

/// `name/version`, as gateways see it.
const AGENT: &str = concat!("synesisd/", env!("CARGO_PKG_VERSION"));

/// A ping that came to nothing.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unanswered(#[from] pub PingError);

/// Keeps the tunnel running and its view current.
#[derive(Debug)]
pub struct TunnelKeeper {
    driver: TunnelDriver,
    handle: TunnelHandle,
    view: Arc<watch::Sender<TunnelView>>,
    device_id: Arc<watch::Sender<Option<String>>>,
    identity: Identity,
    damage: watch::Receiver<Option<Damage>>,
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

/// How to reach a gateway.
#[derive(Debug, Clone, Default)]
pub struct Way {
    /// `host:port`; empty: the gateway this device enrolled with.
    pub endpoints: Vec<String>,
    /// What to do where UDP does not get through.
    pub fallback: Fallback,
}

impl From<&config::Gateway> for Way {
    fn from(gateway: &config::Gateway) -> Self {
        let proxy = gateway.proxy.as_ref().map(|proxy| Proxy {
            address: proxy.address(),
            credentials_file: gateway.proxy_credentials_file.as_ref().map(|file| file.to_path_buf()),
        });
        Self {
            endpoints: gateway.endpoints.iter().map(ToString::to_string).collect(),
            fallback: match gateway.fallback {
                config::Fallback::Off => Fallback::Off,
                config::Fallback::Auto => Fallback::Auto { port: gateway.fallback_port, proxy },
            },
        }
    }
}

/// Reads the identity in `folder`, if there is one, and makes a tunnel that does not run yet. Without an identity that
/// can be read it never does, and says why.
pub fn prepare(
    folder: PathBuf,
    way: Way,
    vitals: watch::Receiver<Option<synesis_proto::mesh::v1::Vitals>>,
    journal: DeviceJournal,
) -> TunnelParts {
    let stored = Identity::stored(&folder);
    let mut config = TunnelConfig::new(AGENT, vitals);
    config.endpoints = way.endpoints;
    config.fallback = way.fallback.clone();
    let (handle, driver) = Tunnel::new(config, stored.0.clone());
    let first = view_of(&handle.status().borrow(), stored.0.as_deref(), stored.1.as_ref());
    let view = Arc::new(watch::Sender::new(first));
    let device_id = Arc::new(watch::Sender::new(id_of(stored.0.as_deref())));
    let identity = Identity::new(folder, stored, way.fallback, handle.clone(), journal);
    let keeper = TunnelKeeper {
        driver,
        handle: handle.clone(),
        view: Arc::clone(&view),
        device_id: Arc::clone(&device_id),
        identity: identity.clone(),
        damage: identity.damage(),
    };
    TunnelParts { handle, identity, view: view.subscribe(), device_id: device_id.subscribe(), keeper }
}

fn id_of(identity: Option<&DeviceIdentity>) -> Option<String> {
    identity.map(|identity| identity.device_id.to_string())
}

#[async_trait::async_trait]
impl Subsystem for TunnelKeeper {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        // Ready never depends on the network.
        cx.ready();
        let Self { driver, handle, view, device_id, identity, damage } = self;
        let report = async {
            let mut status = handle.status();
            let (mut current, mut damage) = (identity.watch(), damage.clone());
            loop {
                let device = current.borrow_and_update().clone();
                let newest = view_of(
                    &status.borrow_and_update(),
                    device.as_deref(),
                    damage.borrow_and_update().as_ref(),
                );
                tell_health(cx, &newest);
                view.send_if_modified(|old| std::mem::replace(old, newest.clone()) != newest);
                let id = id_of(device.as_deref());
                device_id.send_if_modified(|old| {
                    let changed = *old != id;
                    *old = id;
                    changed
                });
                tokio::select! {
                    changed = status.changed() => if changed.is_err() { return },
                    changed = current.changed() => if changed.is_err() { return },
                    changed = damage.changed() => if changed.is_err() { return },
                }
            }
        };
        tokio::select! {
            () = driver.run(cx.stopping()) => Ok(()),
            () = report => Err("the tunnel's status ended".into()),
            () = identity.follow() => Err("the tunnel's renewals ended".into()),
        }
    }
}

/// A box that is not enrolled is complete; one that is enrolled and not connected, or soon will not be, is degraded.
fn tell_health(cx: &Context, view: &TunnelView) {
    match view.state {
        TunnelState::Unenrolled => cx.healthy(),
        TunnelState::Up if view.reason.is_empty() => cx.healthy(),
        _ => cx.degraded(view.reason.clone(), view.next_step.clone()),
    }
}
