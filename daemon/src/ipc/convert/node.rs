//! The state of the device.

use synesis_proto::control::v1::{Adapter, Model, StatusReply, Subsystem, Tunnel};
use synesis_supervise::Health;
use tokio::time::Instant;

use super::rfc3339;
use crate::node::{NodeStatus, TunnelView};

impl From<&NodeStatus> for StatusReply {
    fn from(status: &NodeStatus) -> Self {
        let adapter = status.adapters.active().filter(|_| !status.adapter_lost);
        Self {
            state: status.state.as_str().to_owned(),
            subsystems: status.subsystems.iter().map(subsystem).collect(),
            tunnel: Some((&status.tunnel).into()),
            model: Some(Model {
                state: status.model.state.as_str().to_owned(),
                name: status.model.name.clone(),
                reason: status.model.reason.clone(),
                next_step: status.model.next_step.clone(),
                makes_embeddings: status.model.makes_embeddings(),
            }),
            adapter: Some(Adapter {
                name: adapter.map(|adapter| adapter.name.to_string()).unwrap_or_default(),
                generation: status.adapters.generation,
            }),
            device_id: status.device_id.clone().unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: rfc3339(status.started_at),
            pending_receipts: status.pending_receipts,
        }
    }
}

fn subsystem(health: &Health) -> Subsystem {
    Subsystem {
        name: health.name.to_owned(),
        state: health.state.as_str().to_owned(),
        reason: health.reason.clone(),
        next_step: health.next_step.clone(),
    }
}

impl From<&TunnelView> for Tunnel {
    fn from(view: &TunnelView) -> Self {
        let until = |at: Instant| at.saturating_duration_since(Instant::now()).as_millis() as u64;
        Self {
            state: view.state.as_str().to_owned(),
            gateway: view.gateway.clone(),
            rtt_ms: view.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            connected_since: view.connected_since.map(rfc3339).unwrap_or_default(),
            reason: view.reason.clone(),
            next_step: view.next_step.clone(),
            retry_in_ms: view.retry_at.map(until),
            transport: view.transport.map(|carrier| carrier.as_str().to_owned()).unwrap_or_default(),
            rebinds: view.rebinds,
            certificate_until: view.certificate_until.map(rfc3339).unwrap_or_default(),
            clock_offset_ms: view.clock_offset_ms,
        }
    }
}
