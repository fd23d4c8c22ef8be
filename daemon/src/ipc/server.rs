//! The `ipc` subsystem: answers on the control socket.

use std::time::Duration;

use async_trait::async_trait;
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::time::interval;
use tonic::transport::Server;

use super::gate::GateLayer;
use super::socket::Socket;
use super::{AdmissionControl, Roles, health, peer, services};
use crate::app::Handles;

/// Well within the supervisor's limit for an essential subsystem.
const TICK: Duration = Duration::from_secs(3);

/// Answers on the control socket.
#[derive(Debug)]
pub struct Ipc {
    socket: Socket,
    handles: Handles,
    roles: Roles,
    gate: GateLayer,
}

impl Ipc {
    /// A server on a claimed socket.
    pub fn new(socket: Socket, handles: Handles, admission: AdmissionControl) -> Self {
        let roles = Roles::new(handles.config.ipc.admin_uids.clone());
        Self { socket, handles, roles, gate: GateLayer::new(admission) }
    }
}

#[async_trait]
impl Subsystem for Ipc {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let listener = self.socket.listener()?;
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(synesis_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let mut routes = services::routes(&self.handles);
        routes.add_service(health_service).add_service(reflection);
        let server = Server::builder().layer(self.gate.clone()).add_routes(routes.routes());
        let incoming = peer::accept(listener, self.roles.clone());
        // Stops taking calls, then lets those in progress finish; the supervisor's grace is their limit.
        let serving = server.serve_with_incoming_shutdown(incoming, cx.stopping().cancelled_owned());
        tracing::info!(socket = %self.socket.path().display(), "answering");
        cx.ready();
        tokio::select! {
            served = serving => served.map_err(Into::into),
            () = health::follow(reporter, self.handles.node.clone()) => Ok(()),
            () = tick(cx) => Ok(()),
        }
    }
}

async fn tick(cx: &Context) {
    let mut times = interval(TICK);
    loop {
        times.tick().await;
        cx.tick();
    }
}
