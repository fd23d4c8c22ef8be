//! A connected device asks for its next certificate, and says which server CAs it trusts.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use synesis_mesh::gateway::Renewing;
use synesis_mesh::identity::Fingerprint;
use synesis_proto::mesh::v1;
use tokio::time::Instant;
use uuid::Uuid;

use super::Services;
use crate::control_plane::Clock;
use crate::failure::chain;
use crate::problem;

/// Nothing that lives as long as this needs a timer.
const FAR: Duration = Duration::from_secs(400 * 86_400);

pub(super) async fn serve(renewing: Renewing, device: Uuid, services: Arc<Services>) {
    // Who it is comes from the connection, whose certificate still counts: nothing else has to be looked up.
    let renewed = match services.plane.renew(device, &renewing.csr_der, None).await {
        Ok(enrolment) => {
            tracing::info!(%device, "device renewed");
            v1::Renewed {
                certificate_chain: enrolment.chain.into_iter().map(Into::into).collect(),
                not_after_s: enrolment.not_after_s,
                ..v1::Renewed::default()
            }
        }
        Err(error) => {
            tracing::warn!(%device, error = chain(&error), "device not renewed");
            v1::Renewed { problem: Some(problem::of_control(&error)), ..v1::Renewed::default() }
        }
    };
    if renewing.answer(renewed).await.is_err() {
        tracing::debug!(%device, "the device left before its certificate was made");
    }
}

/// Remembers what the device says it trusts; without it, retiring a CA only takes longer.
pub(super) async fn note_pins(device: Uuid, pinned: &[Bytes], services: &Services) {
    let pinned: Vec<Fingerprint> =
        pinned.iter().filter_map(|pin| Fingerprint::try_from(&pin[..]).ok()).collect();
    if pinned.is_empty() {
        return;
    }
    if let Err(error) = services.plane.pinned(device, &pinned).await {
        tracing::warn!(%device, error = chain(&error), "what the device trusts was not stored");
    }
}

/// When a certificate ends, by the timer of this process.
pub(crate) fn end_of(until: SystemTime, clock: &Clock) -> Instant {
    let now =
        SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(clock.now_ms()).unwrap_or_default());
    Instant::now() + until.duration_since(now).unwrap_or_default().min(FAR)
}
