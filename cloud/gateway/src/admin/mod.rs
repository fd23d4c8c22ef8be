//! Administration of the running gateway: a gRPC service on a unix socket that only its owner may open.

mod authorities;
mod service;
mod socket;

use std::sync::Arc;

use async_trait::async_trait;
use synesis_proto::gateway::v1::gateway_admin_server::GatewayAdminServer;
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio_stream::wrappers::UnixListenerStream;

pub(crate) use socket::AdminSocket;

use crate::rotation::Rotation;
use crate::session::Services;
use service::AdminService;

/// The socket and what stands behind it.
pub(crate) struct Admin {
    pub(crate) socket: AdminSocket,
    pub(crate) services: Arc<Services>,
    pub(crate) rotation: Arc<Rotation>,
}

#[async_trait]
impl Subsystem for Admin {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let connections = UnixListenerStream::new(self.socket.listener()?);
        let service = GatewayAdminServer::new(AdminService::new(
            Arc::clone(&self.services),
            Arc::clone(&self.rotation),
        ));
        let stopping = cx.stopping();
        cx.ready();
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(connections, async move { stopping.cancelled().await })
            .await?;
        Ok(())
    }
}
