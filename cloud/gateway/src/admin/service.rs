//! gateway.v1: what each call does. Who may call was decided by the socket's permissions.

use std::sync::Arc;
use std::time::Duration;

use synesis_ledger::{NanoUsd, Tier};
use synesis_proto::gateway::v1;
use synesis_proto::gateway::v1::gateway_admin_server::GatewayAdmin;
use synesis_proto::{Problem, reason};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::authorities::kind;
use crate::control_plane::{ControlError, DeviceRecord, NewAccount};
use crate::failure::chain;
use crate::rotation::Rotation;
use crate::session::Services;

pub(super) struct AdminService {
    pub(super) services: Arc<Services>,
    pub(super) rotation: Arc<Rotation>,
}

impl AdminService {
    pub(super) fn new(services: Arc<Services>, rotation: Arc<Rotation>) -> Self {
        Self { services, rotation }
    }

    fn device(&self, record: DeviceRecord) -> v1::Device {
        let round_trip = self.services.live.round_trip(record.id);
        v1::Device {
            id: record.id.to_string(),
            account: record.account,
            state: record.state.as_str().to_owned(),
            connected: round_trip.is_some(),
            enrolled_at: rfc3339(record.enrolled_at_ms),
            last_seen_at: record.last_seen_at_ms.map(rfc3339).unwrap_or_default(),
            rtt_ms: round_trip.flatten().map(|rtt| rtt.as_secs_f64() * 1000.0),
        }
    }
}

/// A free account without a quota of its own could do nothing at all.
const FREE_QUOTA: NanoUsd = NanoUsd::from_i64(1_000_000_000);

#[tonic::async_trait]
impl GatewayAdmin for AdminService {
    async fn create_account(
        &self,
        request: Request<v1::CreateAccountRequest>,
    ) -> Result<Response<v1::Account>, Status> {
        let asked = request.into_inner();
        let tier = if asked.tier.is_empty() { Ok(Tier::Managed) } else { asked.tier.parse() };
        let tier = tier
            .map_err(|error: synesis_ledger::UnknownTier| bad(error.to_string(), "name one of the tiers"))?;
        let quota = amount("quota", asked.quota_nanousd)?;
        let new = NewAccount {
            name: asked.name,
            tier,
            ceiling: amount("ceiling", asked.ceiling_nanousd)?,
            quota: quota.or((tier == Tier::Free).then_some(FREE_QUOTA)),
        };
        let account = self.services.plane.create_account(new).await.map_err(|error| refuse(&error))?;
        tracing::info!(account = account.name, tier = %account.tier, "account created");
        Ok(Response::new(v1::Account {
            id: account.id,
            name: account.name,
            tier: account.tier.as_str().to_owned(),
            ceiling_nanousd: account.ceiling.map(NanoUsd::as_i64),
            quota_nanousd: account.quota.map(NanoUsd::as_i64),
        }))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenReply>, Status> {
        let asked = request.into_inner();
        if asked.ttl_s == 0 || asked.uses == 0 {
            return Err(bad("a token needs a time to live and at least one use", "give both").into());
        }
        let ttl = Duration::from_secs(asked.ttl_s);
        let issued = self.services.plane.create_token(&asked.account, ttl, asked.uses).await;
        let issued = issued.map_err(|error| refuse(&error))?;
        tracing::info!(account = asked.account, uses = asked.uses, "enrolment token created");
        Ok(Response::new(v1::CreateTokenReply {
            token: issued.token.expose().to_owned(),
            expires_at: rfc3339(issued.expires_at_ms),
        }))
    }

    async fn list_devices(
        &self,
        _: Request<v1::ListDevicesRequest>,
    ) -> Result<Response<v1::ListDevicesReply>, Status> {
        let records = self.services.plane.devices().await.map_err(|error| refuse(&error))?;
        let devices = records.into_iter().map(|record| self.device(record)).collect();
        Ok(Response::new(v1::ListDevicesReply { devices }))
    }

    async fn revoke_device(
        &self,
        request: Request<v1::RevokeDeviceRequest>,
    ) -> Result<Response<v1::RevokeDeviceReply>, Status> {
        let id = request.into_inner().id;
        let Ok(device) = id.parse::<Uuid>() else {
            let unknown = format!("{:?} is not a device id", id.chars().take(64).collect::<String>());
            return Err(
                Problem::new(Code::NotFound, reason::BAD_REQUEST, unknown, "see `device list`").into()
            );
        };
        // First the store, then the connections: a device that comes in between is turned away by the store.
        self.services.plane.revoke(device).await.map_err(|error| refuse(&error))?;
        let was_connected = self.services.live.revoke(device);
        // Those that nobody reads at the moment too.
        self.services.answers.revoke(device);
        tracing::info!(%device, was_connected, "device revoked");
        Ok(Response::new(v1::RevokeDeviceReply { was_connected }))
    }

    async fn list_authorities(
        &self,
        _: Request<v1::ListAuthoritiesRequest>,
    ) -> Result<Response<v1::ListAuthoritiesReply>, Status> {
        Ok(Response::new(self.authorities().await?))
    }

    async fn add_authority(
        &self,
        request: Request<v1::AddAuthorityRequest>,
    ) -> Result<Response<v1::Authority>, Status> {
        let kind = kind(&request.into_inner().kind)?;
        Ok(Response::new(self.rotate(kind, Rotation::add).await?))
    }

    async fn switch_authority(
        &self,
        request: Request<v1::SwitchAuthorityRequest>,
    ) -> Result<Response<v1::Authority>, Status> {
        let kind = kind(&request.into_inner().kind)?;
        Ok(Response::new(self.rotate(kind, Rotation::switch).await?))
    }

    async fn retire_authority(
        &self,
        request: Request<v1::RetireAuthorityRequest>,
    ) -> Result<Response<v1::Authority>, Status> {
        let v1::RetireAuthorityRequest { kind: word, force } = request.into_inner();
        let kind = kind(&word)?;
        if !force {
            self.may_retire(kind).await?;
        }
        Ok(Response::new(self.rotate(kind, Rotation::retire).await?))
    }
}

fn amount(what: &str, nano_dollars: Option<i64>) -> Result<Option<NanoUsd>, Problem> {
    match nano_dollars {
        Some(..0) => Err(bad(format!("the {what} is negative"), "give an amount of zero or more")),
        other => Ok(other.map(NanoUsd::from_i64)),
    }
}

pub(super) fn bad(message: impl Into<String>, next_step: &str) -> Problem {
    Problem::new(Code::InvalidArgument, reason::BAD_REQUEST, message, next_step)
}

pub(super) fn refuse(error: &ControlError) -> Problem {
    let (code, reason, next_step) = match error {
        ControlError::AccountExists(_) => {
            (Code::AlreadyExists, reason::BAD_REQUEST, "use that account, or another name")
        }
        ControlError::AccountName(_) => (Code::InvalidArgument, reason::BAD_REQUEST, "choose another name"),
        ControlError::AccountUnknown(_) => {
            (Code::NotFound, reason::BAD_REQUEST, "create it with `synesis-gateway account create NAME`")
        }
        ControlError::DeviceUnknown => {
            (Code::NotFound, reason::BAD_REQUEST, "see `synesis-gateway device list`")
        }
        ControlError::Store(_) | ControlError::Sqlite(_) => {
            tracing::error!(error = chain(error), "the control plane failed");
            let text = "the gateway's store failed";
            return Problem::new(
                Code::Unavailable,
                reason::STORE_FAILED,
                text,
                "see the gateway's log, and its disk",
            );
        }
        _ => {
            tracing::error!(error = chain(error), "the control plane failed");
            let text = "the gateway could not do that";
            return Problem::new(Code::Internal, reason::INTERNAL, text, "see the gateway's log");
        }
    };
    Problem::new(code, reason, error.to_string(), next_step)
}

pub(super) fn rfc3339(at_ms: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000);
    at.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}
