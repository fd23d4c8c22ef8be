//! Becoming a device: a key is made here, the gateway signs it for a one-time token. Trusts nothing but the CA it
//! is given. Where UDP does not get through, it goes over TCP. A device that was away for too long comes the same way,
//! with its expired certificate for a token.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::enroll_reply::Message as Reply;
use tokio::time::timeout;
use uuid::Uuid;

use super::dial::{Dial, Dialled, Network, Udp};
use super::renewal::with_certificate;
use super::{Failure, Fallback, Timing, TunnelConfig, Verdict};
use crate::frame::FrameError;
use crate::identity::{
    DeviceIdentity, DeviceKey, IdentityError, ReceiptKey, WallClock, certificates_from_pem,
};
use crate::kind::{ALPN_ENROLL, ErrorCode, MAX_ENROLL_FRAME};
use crate::stream::RawStream;
use crate::tls::{self, ClientTls};

const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// The gateway gets this long to hear the goodbye.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a device was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The CA text holds no usable certificate.
    #[error("the CA file holds no usable certificate")]
    CaUnreadable(#[source] IdentityError),
    /// No answer.
    #[error("{reason}")]
    Unreachable {
        /// What happened.
        reason: String,
        /// What to do.
        next_step: String,
    },
    /// Who answered is not signed by the given CA.
    #[error("{reason}")]
    Untrusted {
        /// What happened.
        reason: String,
        /// What to do.
        next_step: String,
    },
    /// The gateway said no.
    #[error("the gateway refused: {message}")]
    Refused {
        /// Why, if this version knows the code.
        code: Option<ErrorCode>,
        /// Why, as the gateway put it.
        message: String,
        /// What to do.
        next_step: String,
    },
    /// The gateway said yes, and sent something that does not make an identity.
    #[error("the gateway's answer does not make an identity: {0}")]
    BadReply(String),
    /// No key could be made.
    #[error("a key could not be made")]
    Key(#[source] IdentityError),
}

impl From<Failure> for EnrollError {
    fn from(failure: Failure) -> Self {
        let Failure { verdict, untrusted, reason, next_step, .. } = failure;
        match verdict {
            _ if untrusted => Self::Untrusted { reason, next_step },
            Verdict::Retry | Verdict::RetryInTurn => Self::Unreachable { reason, next_step },
            Verdict::Refused | Verdict::Revoked => Self::Refused { code: None, message: reason, next_step },
        }
    }
}

/// Enrols this device at `gateway` (`host:port`), which has to prove itself to the CA in `ca_pem`. The identity is
/// returned, not stored.
///
/// # Errors
/// Each cause that a person can do something about has its own [`EnrollError`].
pub async fn enroll(
    gateway: &str,
    ca_pem: &[u8],
    token: &str,
    agent: &str,
) -> Result<DeviceIdentity, EnrollError> {
    enroll_over(gateway, ca_pem, token, agent, &Fallback::default()).await
}

/// Like [`enroll`], with a way of its own where UDP does not get through.
///
/// # Errors
/// Like [`enroll`].
pub async fn enroll_over(
    gateway: &str,
    ca_pem: &[u8],
    token: &str,
    agent: &str,
    fallback: &Fallback,
) -> Result<DeviceIdentity, EnrollError> {
    let ca = certificates_from_pem(ca_pem).map_err(EnrollError::CaUnreadable)?;
    let tls = tls::enrolling(&ca, &WallClock::system()).and_then(ClientTls::try_from);
    let tls = tls.map_err(|error| match error {
        tls::TlsError::Identity(error) => EnrollError::CaUnreadable(error),
        other => EnrollError::CaUnreadable(IdentityError::CertificatePem(other.to_string())),
    })?;
    let key = DeviceKey::generate().map_err(EnrollError::Key)?;
    let request = v1::EnrollRequest {
        token: token.to_owned(),
        csr_der: key.csr_der().map_err(EnrollError::Key)?.into(),
        agent: agent.to_owned(),
        renew: false,
    };
    let Timing { connect_timeout: each, tcp_after: head_start, .. } = Timing::default();
    let dial = Dial { gateways: &[gateway.to_owned()], tls, each, fallback, head_start };
    match ask(dial.run(&Udp).await?, &request).await?.message {
        Some(Reply::Enrolled(enrolled)) => identity(gateway, key, ca, enrolled),
        Some(Reply::Problem(problem)) => Err(EnrollError::Refused {
            code: ErrorCode::from_number(problem.code.into()),
            message: problem.message,
            next_step: problem.next_step,
        }),
        None => Err(EnrollError::BadReply("it is empty".to_owned())),
    }
}

/// A certificate for a new key of a device whose own has expired: the gateway signs it when it knows the device and the
/// end is not too long ago.
pub(super) async fn renew_expired(
    config: &TunnelConfig,
    identity: &DeviceIdentity,
    network: &dyn Network,
) -> Result<DeviceIdentity, Failure> {
    let tls = tls::device(identity, ALPN_ENROLL, &config.clock).and_then(ClientTls::try_from);
    let tls = tls.map_err(|error| Failure::identity(&error))?;
    let key = DeviceKey::generate()?;
    let csr_der = key.csr_der()?.into();
    let request =
        v1::EnrollRequest { token: String::new(), csr_der, agent: config.agent.clone(), renew: true };
    let Timing { connect_timeout: each, tcp_after: head_start, .. } = config.timing;
    let (gateways, fallback) = (config.gateways(identity), &config.fallback);
    let dialled = Dial { gateways, tls, each, fallback, head_start }.run(network).await?;
    tracing::info!(gateway = dialled.gateway, "the certificate has expired, asking for another one");
    match ask(dialled, &request).await?.message {
        Some(Reply::Enrolled(enrolled)) => {
            let renewed = with_certificate(identity, key, enrolled.certificate_chain)?;
            Ok(renewed.trusting(&enrolled.server_ca, &[]).unwrap_or(renewed))
        }
        Some(Reply::Problem(problem)) => Err(Failure::problem(&problem)),
        None => Err(Failure::lost("the gateway's answer to the renewal is empty")),
    }
}

/// Asks, and hangs up.
async fn ask(dialled: Dialled, request: &v1::EnrollRequest) -> Result<v1::EnrollReply, Failure> {
    let answer = timeout(REPLY_TIMEOUT, exchange(&dialled, request)).await;
    dialled.connection.leave("");
    // The gateway notices a lost close by itself, only later.
    let _ = timeout(FAREWELL, dialled.connection.wait_idle()).await;
    let gateway = dialled.gateway.as_str();
    let late = |_| Failure::unreachable(gateway, "it did not answer the request");
    answer.map_err(late)?.map_err(|error| Failure::frame(gateway, &error))
}

async fn exchange(dialled: &Dialled, request: &v1::EnrollRequest) -> Result<v1::EnrollReply, FrameError> {
    let stream = dialled.connection.open().await.map_err(FrameError::ConnectionLost)?;
    let raw = RawStream::new(stream, None);
    let (mut tx, mut rx) = (raw.tx.with_limit(MAX_ENROLL_FRAME), raw.rx.with_limit(MAX_ENROLL_FRAME));
    tx.write(request).await?;
    tx.finish().await?;
    rx.read().await?.ok_or(FrameError::Truncated)
}

pub(crate) fn identity(
    gateway: &str,
    key: DeviceKey,
    ca: Vec<CertificateDer<'static>>,
    enrolled: v1::Enrolled,
) -> Result<DeviceIdentity, EnrollError> {
    let bad = |error: &dyn std::fmt::Display| EnrollError::BadReply(error.to_string());
    let receipt_keys: Result<Vec<ReceiptKey>, _> =
        enrolled.receipt_keys.into_iter().map(ReceiptKey::try_from).collect();
    let identity = DeviceIdentity {
        device_id: Uuid::parse_str(&enrolled.device_id).map_err(|e| bad(&e))?,
        account: enrolled.account,
        trust_domain: enrolled.trust_domain.parse().map_err(|e| bad(&e))?,
        key,
        chain: enrolled.certificate_chain.into_iter().map(|der| der.to_vec().into()).collect(),
        ca,
        receipt_keys: receipt_keys.map_err(|e| bad(&e))?,
        gateway: gateway.to_owned(),
    };
    identity.check().map_err(|e| bad(&e))?;
    Ok(identity.trusting(&enrolled.server_ca, &[]).unwrap_or(identity))
}
