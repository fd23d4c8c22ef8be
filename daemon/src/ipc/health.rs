//! grpc.health.v1: one status per service, kept in step with the device. The empty name is the daemon itself: serving
//! as long as the socket answers and it is not stopping.

use synesis_supervise::Overall;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::model::ModelState;
use crate::node::{NodeStatus, NodeView, TunnelState};

/// A service and whether it can do its work.
type Row = (&'static str, fn(&NodeStatus) -> bool);

const ROWS: &[Row] = &[
    ("", |_| true),
    ("synesis.control.v1.Node", |_| true),
    ("synesis.control.v1.Models", |_| true),
    ("synesis.control.v1.Adapters", |_| true),
    ("synesis.control.v1.Privacy", |_| true),
    ("synesis.control.v1.Billing", |_| true),
    ("synesis.control.v1.Admin", |_| true),
    ("synesis.control.v1.Inference", |node| {
        node.model.state == ModelState::Ready || node.tunnel.state == TunnelState::Up
    }),
];

/// Publishes the statuses until it is dropped.
pub(super) async fn follow(reporter: HealthReporter, mut view: NodeView) {
    let stopping = view.stopping().clone();
    loop {
        let node = view.snapshot();
        for (service, can_work) in ROWS {
            let serving = node.state != Overall::Stopping && can_work(&node);
            let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status(service, status).await;
        }
        tokio::select! {
            () = view.changed() => {}
            () = stopping.cancelled(), if node.state != Overall::Stopping => {}
        }
    }
}
