//! The authorities over gateway.v1: what there is, who depends on it, and the changes, which wait until nobody does.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use synesis_mesh::identity::CaKind;
use synesis_proto::gateway::v1;
use synesis_proto::{Problem, reason};
use tonic::Code;

use super::service::{AdminService, bad, refuse, rfc3339};
use crate::authorities::{Authority, Standing};
use crate::control_plane::Dependency;
use crate::failure::chain;
use crate::rotation::{Rotation, RotationError, word};

/// The kind that a caller named.
pub(super) fn kind(word: &str) -> Result<CaKind, Problem> {
    match word {
        "server" => Ok(CaKind::Server),
        "device" => Ok(CaKind::Device),
        _ => Err(bad("there is no such kind of CA", "name `server` or `device`")),
    }
}

impl AdminService {
    pub(super) async fn authorities(&self) -> Result<v1::ListAuthoritiesReply, Problem> {
        let devices = self.dependencies().await?;
        let now = self.rotation.watch().borrow().clone();
        let of = |kind: CaKind| {
            let all = now.line(kind).all.iter();
            all.map(|authority| told(kind, authority, &devices)).collect::<Vec<_>>()
        };
        let authorities = [CaKind::Server, CaKind::Device].into_iter().flat_map(of).collect();
        Ok(v1::ListAuthoritiesReply { authorities, devices: devices.len() as u64 })
    }

    /// Makes one change, off the event loop: it works with files.
    pub(super) async fn rotate(
        &self,
        kind: CaKind,
        change: fn(&Rotation, CaKind) -> Result<Authority, RotationError>,
    ) -> Result<v1::Authority, Problem> {
        let rotation = Arc::clone(&self.rotation);
        let changed = tokio::task::spawn_blocking(move || change(&rotation, kind)).await;
        let authority = match changed {
            Ok(changed) => changed.map_err(|error| not_changed(&error))?,
            Err(_) => {
                let text = "the gateway could not do that";
                return Err(Problem::new(Code::Internal, reason::INTERNAL, text, "see the gateway's log"));
            }
        };
        tracing::info!(ca = authority.name, standing = authority.standing.as_str(), "authorities changed");
        Ok(told(kind, &authority, &self.dependencies().await?))
    }

    /// Whether no device depends on the CA that would be retired: devices whose certificate it signed, or those that are
    /// not known to trust the one that stays.
    pub(super) async fn may_retire(&self, kind: CaKind) -> Result<(), Problem> {
        let now = self.rotation.watch().borrow().clone();
        let line = now.line(kind);
        let Some(old) = line.trusted().find(|authority| authority.standing == Standing::Trusted) else {
            return Err(not_changed(&RotationError::NoOther(word(kind))));
        };
        let devices = self.dependencies().await?;
        let stays = line.issuing.fingerprint();
        let depends = |device: &&Dependency| match kind {
            CaKind::Device => device.issuer == old.fingerprint,
            CaKind::Server => !device.pinned.contains(&stays),
        };
        let depending = devices.iter().filter(depends).count();
        if depending == 0 {
            return Ok(());
        }
        let (why, next_step) = match kind {
            CaKind::Device => (
                "have their certificate from it",
                "wait until they have renewed, revoke those that are gone, or use --force: \
                 they then enrol again with a new token",
            ),
            CaKind::Server => (
                "have not confirmed that they trust the one that stays",
                "wait until they have connected, revoke those that are gone, or use --force: \
                 they then enrol again with a new CA file and a new token",
            ),
        };
        let text = format!("{depending} of {} enrolled devices {why}", devices.len());
        Err(Problem::new(Code::FailedPrecondition, reason::BAD_REQUEST, text, next_step))
    }

    async fn dependencies(&self) -> Result<Vec<Dependency>, Problem> {
        self.services.plane.dependencies().await.map_err(|error| refuse(&error))
    }
}

fn told(kind: CaKind, authority: &Authority, devices: &[Dependency]) -> v1::Authority {
    let depends = |device: &&Dependency| match kind {
        CaKind::Device => device.issuer == authority.fingerprint,
        CaKind::Server => device.pinned.contains(&authority.fingerprint),
    };
    let until = authority.not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
    v1::Authority {
        kind: word(kind).to_owned(),
        name: authority.name.clone(),
        state: authority.standing.as_str().to_owned(),
        fingerprint: hex::encode(authority.fingerprint),
        not_after: rfc3339(i64::try_from(until.as_millis()).unwrap_or(i64::MAX)),
        devices: devices.iter().filter(depends).count() as u64,
    }
}

fn not_changed(error: &RotationError) -> Problem {
    let next_step = match error {
        RotationError::Underway(..) => "finish that change first: `ca switch`, then `ca retire`",
        RotationError::NoOther(_) => "make one with `synesis-gateway ca add`",
        RotationError::Pki(_) | RotationError::Tls(_) => {
            tracing::error!(error = chain(error), "the authorities were not changed");
            let text = format!("the files in pki.dir cannot be changed: {}", chain(error));
            let next_step = "make pki.dir writable for the gateway";
            return Problem::new(Code::Unavailable, reason::STORE_FAILED, text, next_step);
        }
    };
    Problem::new(Code::FailedPrecondition, reason::BAD_REQUEST, error.to_string(), next_step)
}
