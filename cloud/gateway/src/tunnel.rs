//! The tunnel's end as a subsystem: takes connections in, gives each its task, and lets running answers finish when
//! it has to stop.

use std::sync::Arc;

use async_trait::async_trait;
use synesis_mesh::gateway::{Accepted, GatewayEndpoint, Incoming};
use synesis_mesh::kind::ErrorCode;
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::enrol;
use crate::handshakes::{Handshakes, Room};
use crate::session::{self, DRAIN, Services};

/// The listener and what its connections need.
pub(crate) struct Tunnel {
    pub(crate) endpoint: GatewayEndpoint,
    pub(crate) handshakes: Handshakes,
    pub(crate) services: Arc<Services>,
}

/// The socket was closed under the tunnel.
#[derive(Debug, thiserror::Error)]
#[error("the tunnel's socket was closed")]
struct Closed;

#[async_trait]
impl Subsystem for Tunnel {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let stopping = cx.stopping();
        let mut connections = JoinSet::new();
        cx.ready();
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                admitted = self.handshakes.admit(&self.endpoint) => {
                    let (incoming, room) = admitted.ok_or(Closed)?;
                    connections.spawn(serve(incoming, room, Arc::clone(&self.services), stopping.clone()));
                }
                Some(done) = connections.join_next() => {
                    if let Err(error) = done {
                        tracing::error!(%error, "serving a connection panicked");
                    }
                }
            }
        }
        self.services.answers.stop_by(Instant::now() + DRAIN);
        // From here on nobody comes in: sessions drain by themselves, then the rest is closed.
        let newcomers = async {
            while let Some(incoming) = self.endpoint.accept().await {
                incoming.refuse();
            }
        };
        tokio::select! {
            () = newcomers => {}
            () = async { while connections.join_next().await.is_some() {} } => {}
        }
        self.endpoint.close(ErrorCode::Draining, "the gateway is stopping");
        self.endpoint.wait_idle().await;
        Ok(())
    }
}

async fn serve(incoming: Incoming, room: Room, services: Arc<Services>, stopping: CancellationToken) {
    let remote = incoming.remote();
    let accepted = incoming.handshake().await;
    drop(room);
    match accepted {
        Ok(Accepted::Enroll(connection)) => enrol::serve(connection, services).await,
        Ok(Accepted::Device(connection)) => session::serve(connection, services, stopping).await,
        Err(error) => tracing::debug!(%remote, error = crate::failure::chain(&error), "handshake failed"),
    }
}
