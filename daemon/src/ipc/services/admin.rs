//! `Admin`: enrolment and the tunnel.

use synesis_mesh::device::TunnelHandle;
use synesis_proto::control::v1::admin_server::Admin;
use synesis_proto::control::v1::{
    EnrollReply, EnrollRequest, Tunnel, TunnelPingReply, TunnelPingRequest, TunnelReconnectReply,
    TunnelReconnectRequest, TunnelStatusRequest, UnenrollReply, UnenrollRequest,
};
use tonic::{Request, Response, Status};

use crate::app::Handles;
use crate::ipc::{convert, status};
use crate::node::NodeView;
use crate::tunnel::{Identity, Unanswered};

/// The service.
#[derive(Debug)]
pub(super) struct AdminService {
    identity: Identity,
    tunnel: TunnelHandle,
    node: NodeView,
}

impl AdminService {
    pub(super) fn new(handles: &Handles) -> Self {
        Self {
            identity: handles.identity.clone(),
            tunnel: handles.asker.escalation.tunnel.clone(),
            node: handles.node.clone(),
        }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollReply>, Status> {
        let EnrollRequest { gateway, ca_pem, token } = request.into_inner();
        let identity =
            self.identity.enroll(&gateway, ca_pem.as_bytes(), token.trim()).await.map_err(status::refuse)?;
        Ok(Response::new(EnrollReply {
            device_id: identity.device_id.to_string(),
            account: identity.account.clone(),
            gateway: identity.gateway.clone(),
            expires_at: identity.not_after().map(convert::rfc3339).unwrap_or_default(),
        }))
    }

    async fn unenroll(&self, request: Request<UnenrollRequest>) -> Result<Response<UnenrollReply>, Status> {
        self.identity.unenroll(request.into_inner().force).await.map_err(status::refuse)?;
        Ok(Response::new(UnenrollReply {}))
    }

    async fn tunnel_status(&self, _: Request<TunnelStatusRequest>) -> Result<Response<Tunnel>, Status> {
        Ok(Response::new(Tunnel::from(&self.node.snapshot().tunnel)))
    }

    async fn tunnel_ping(&self, _: Request<TunnelPingRequest>) -> Result<Response<TunnelPingReply>, Status> {
        self.enrolled()?;
        let rtt = self.tunnel.ping().await.map_err(|error| status::refuse(Unanswered(error)))?;
        let gateway = self.node.snapshot().tunnel.gateway;
        Ok(Response::new(TunnelPingReply { rtt_ms: rtt.as_secs_f64() * 1e3, gateway }))
    }

    async fn tunnel_reconnect(
        &self,
        _: Request<TunnelReconnectRequest>,
    ) -> Result<Response<TunnelReconnectReply>, Status> {
        self.enrolled()?;
        self.tunnel.reconnect();
        Ok(Response::new(TunnelReconnectReply {}))
    }
}

impl AdminService {
    fn enrolled(&self) -> Result<(), Status> {
        self.identity.present().map_err(status::refuse)
    }
}
