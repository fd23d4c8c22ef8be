//! The tunnel's end as a subsystem: takes connections in, gives each its task, and lets running answers finish when
//! it has to stop.

use std::sync::Arc;

use async_trait::async_trait;
use synesis_mesh::gateway::{Accepted, GatewayEndpoint, HandshakeError, Incoming};
use synesis_mesh::kind::ErrorCode;
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::enrol;
use crate::handshakes::{Handshakes, Room};
use crate::session::{self, Services};

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
        self.services.answers.stop_by(Instant::now() + self.services.drain.deadline);
        // From here on nobody comes in: sessions drain by themselves, then the rest is closed.
        let newcomers = async {
            while let Some(incoming) = self.endpoint.accept().await {
                self.services.metrics.refused.count("draining");
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

/// A word for the metrics.
fn outcome(accepted: &Result<Accepted, HandshakeError>) -> &'static str {
    match accepted {
        Ok(Accepted::Device(_)) => "device",
        Ok(Accepted::Enroll(_)) => "enrolment",
        Err(HandshakeError::TimedOut) => "timed_out",
        Err(HandshakeError::Failed(_)) => "failed",
        Err(HandshakeError::Certificate(_)) => "bad_certificate",
        Err(HandshakeError::Expired(_)) => "expired",
        Err(HandshakeError::NoCertificate) => "no_certificate",
        Err(HandshakeError::Identity(_)) => "bad_name",
        Err(HandshakeError::Protocol) => "no_protocol",
    }
}

async fn serve(incoming: Incoming, room: Room, services: Arc<Services>, stopping: CancellationToken) {
    let remote = incoming.remote();
    // What is over soon is in boxes of its own: a connection's task is as large as its largest part, for as long as its device
    // is connected.
    let accepted = Box::pin(incoming.handshake()).await;
    services.metrics.handshakes.count(outcome(&accepted));
    match &accepted {
        Ok(_) => room.done(),
        Err(_) => drop(room),
    }
    match accepted {
        Ok(Accepted::Enroll(connection)) => Box::pin(enrol::serve(connection, services)).await,
        Ok(Accepted::Device(connection)) => session::serve(connection, services, stopping).await,
        Err(error) => tracing::debug!(%remote, error = crate::failure::chain(&error), "handshake failed"),
    }
}
