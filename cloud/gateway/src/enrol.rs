//! Enrolment: a one-time token and a signing request come in, a device certificate goes out. A device that was away for
//! too long comes the same way, with its expired certificate for a token.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use synesis_mesh::gateway::{EnrollConnection, PeerCertificate};
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::enroll_reply::Message as Reply;
use tokio::time::Instant;

use crate::control_plane::{ControlError, Enrolment};
use crate::problem;
use crate::rotation;
use crate::session::Services;

/// Serves one enrolment connection to its end.
pub(crate) async fn serve(mut connection: EnrollConnection, services: Arc<Services>) {
    let remote = connection.remote();
    let request = match connection.request().await {
        Ok(request) => request,
        Err(error) => return tracing::debug!(%remote, %error, "no enrolment request"),
    };
    let outcome = match (request.renew, connection.certificate()) {
        (false, _) => services.plane.enrol(&request.token, &request.csr_der, &request.agent).await,
        (true, Some(PeerCertificate { device_id, serial, .. })) => {
            services.plane.renew(*device_id, &request.csr_der, Some(serial)).await
        }
        (true, None) => Err(ControlError::CertificateUnknown),
    };
    let message = match outcome {
        Ok(enrolment) => {
            let what = if request.renew { "expired device renewed" } else { "device enrolled" };
            tracing::info!(%remote, device = %enrolment.device, account = enrolment.account, "{what}");
            Reply::Enrolled(enrolled(enrolment, &services))
        }
        Err(error) => {
            services.refusals.note(remote, &error);
            Reply::Problem(problem::of_control(&error))
        }
    };
    if let Err(error) = connection.reply(v1::EnrollReply { message: Some(message) }).await {
        tracing::warn!(%remote, %error, "the device may not have its enrolment answer");
    }
}

fn enrolled(enrolment: Enrolment, services: &Services) -> v1::Enrolled {
    v1::Enrolled {
        device_id: enrolment.device.to_string(),
        account: enrolment.account,
        trust_domain: enrolment.trust_domain,
        certificate_chain: enrolment.chain.into_iter().map(Into::into).collect(),
        receipt_keys: services.plane.receipt_keys().into_iter().map(Into::into).collect(),
        not_after_s: enrolment.not_after_s,
        server_ca: rotation::trust(&services.authorities.borrow()).0,
    }
}

/// No more than one line in this time says that enrolments are refused: anybody can cause them.
const QUIET: Duration = Duration::from_secs(1);

/// The refused enrolments, for the log.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<Tally>);

#[derive(Default)]
struct Tally {
    said_at: Option<Instant>,
    /// Since the last line.
    unsaid: u64,
}

impl Refusals {
    fn note(&self, remote: SocketAddr, error: &ControlError) {
        if let Some(unsaid) = self.due(Instant::now()) {
            tracing::info!(%remote, %error, unsaid, "enrolment refused");
        } else {
            tracing::debug!(%remote, %error, "enrolment refused");
        }
    }

    /// Whether this refusal is to be said, and how many there were since the last that was.
    fn due(&self, now: Instant) -> Option<u64> {
        // A panic elsewhere leaves a count that is still a count.
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tally.said_at.is_some_and(|at| now.duration_since(at) < QUIET) {
            tally.unsaid += 1;
            return None;
        }
        tally.said_at = Some(now);
        Some(std::mem::take(&mut tally.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn refusals_are_said_once_a_second_with_the_number_of_those_between() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let said =
            [0, 1, 500, 999, 1000, 1999, 9000].map(|ms| refusals.due(start + Duration::from_millis(ms)));
        assert_eq!(said, [Some(0), None, None, None, Some(3), None, Some(1)]);
    }
}
