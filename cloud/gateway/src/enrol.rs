//! Enrolment: a one-time token and a signing request come in, a device certificate goes out.

use std::sync::Arc;

use synesis_mesh::gateway::EnrollConnection;
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::enroll_reply::Message as Reply;

use crate::control_plane::Enrolment;
use crate::problem;
use crate::session::Services;

/// Serves one enrolment connection to its end.
pub(crate) async fn serve(mut connection: EnrollConnection, services: Arc<Services>) {
    let remote = connection.remote();
    let request = match connection.request().await {
        Ok(request) => request,
        Err(error) => return tracing::debug!(%remote, %error, "no enrolment request"),
    };
    let outcome = services.plane.enrol(&request.token, &request.csr_der, &request.agent).await;
    let message = match outcome {
        Ok(enrolment) => {
            tracing::info!(%remote, device = %enrolment.device, account = enrolment.account, "device enrolled");
            Reply::Enrolled(enrolled(enrolment, &services))
        }
        Err(error) => {
            tracing::warn!(%remote, %error, "enrolment refused");
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
    }
}
