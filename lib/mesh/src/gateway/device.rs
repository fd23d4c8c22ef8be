//! A device between its handshake and its session: it says hello, the gateway welcomes or refuses it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::control_down::Message as Down;
use synesis_proto::mesh::v1::control_up::Message as Up;
use tokio::time::timeout;
use uuid::Uuid;

use super::{PeerCertificate, STEP_TIMEOUT, Session, Tally};
use crate::carrier::{Connection, ConnectionLost};
use crate::frame::{FrameError, FrameReader, FrameWriter};
use crate::kind::{ErrorCode, StreamKind, negotiate_version};
use crate::stream::{RawStream, RecvHalf, SendHalf};

/// A device that was told why it may not come in is given this long to hang up.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why the first exchange on a connection failed. The peer has been told.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// It did not come in time.
    #[error("the first message did not come in time")]
    TimedOut,
    /// Something else came.
    #[error("the first message is not the expected one")]
    Unexpected,
    /// The device speaks versions {0:?} only.
    #[error("no protocol version in common: the device speaks {0:?}")]
    Version(Vec<u32>),
    /// The frame could not be read or written.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The connection ended.
    #[error("the connection was lost")]
    Lost(#[source] ConnectionLost),
}

impl HelloError {
    /// The code that tells the peer what went wrong.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TimedOut => ErrorCode::DeadlineExceeded,
            Self::Unexpected => ErrorCode::BadFrame,
            Self::Version(_) => ErrorCode::VersionUnsupported,
            Self::Frame(error) => error.code(),
            Self::Lost(_) => ErrorCode::Cancelled,
        }
    }
}

/// A device whose certificate is good. Whether it is still welcome is the gateway's decision.
#[derive(Debug)]
pub struct DeviceConnection {
    connection: Connection,
    certificate: PeerCertificate,
    control: Option<(FrameWriter<SendHalf>, FrameReader<RecvHalf>)>,
    version: u32,
    tally: Arc<Tally>,
}

impl DeviceConnection {
    pub(super) fn new(connection: Connection, certificate: PeerCertificate) -> Self {
        Self { connection, certificate, control: None, version: 0, tally: Arc::default() }
    }

    /// Counts into `tally` from now on.
    #[must_use]
    pub fn counted(self, tally: Arc<Tally>) -> Self {
        Self { tally, ..self }
    }

    /// The device named in the certificate.
    pub fn device_id(&self) -> Uuid {
        self.certificate.device_id
    }

    /// What the device proved itself with.
    pub fn certificate(&self) -> &PeerCertificate {
        &self.certificate
    }

    /// Where the device is.
    pub fn remote(&self) -> SocketAddr {
        self.connection.remote()
    }

    /// The device's hello, which it has ten seconds to send. The version to speak is agreed on here.
    ///
    /// # Errors
    /// When it does not come, is something else, or has no version in common with us. The connection is then
    /// closed.
    pub async fn hello(&mut self) -> Result<v1::Hello, HelloError> {
        let read = async {
            let raw = RawStream::new(self.connection.accept().await.map_err(HelloError::Lost)?, None);
            let (tx, mut rx) = raw.with_kind(StreamKind::Control);
            let first = rx.read::<v1::ControlUp>().await?.and_then(|up| up.message);
            let Some(Up::Hello(hello)) = first else { return Err(HelloError::Unexpected) };
            match negotiate_version(&hello.versions) {
                Some(version) => Ok((hello, version, (tx, rx))),
                None => Err(HelloError::Version(hello.versions)),
            }
        };
        match timeout(STEP_TIMEOUT, read).await.unwrap_or(Err(HelloError::TimedOut)) {
            Ok((hello, version, control)) => {
                self.version = version;
                self.control = Some(control);
                Ok(hello)
            }
            Err(error) => {
                self.connection.close(error.code(), &error.to_string());
                Err(error)
            }
        }
    }

    /// Lets the device in. `welcome.version` is overwritten with the version agreed on.
    ///
    /// # Errors
    /// When the device is gone, or [`Self::hello`] was not called before.
    pub async fn welcome(self, mut welcome: v1::Welcome) -> Result<Session, HelloError> {
        let (mut tx, rx) = self.control.ok_or(HelloError::Unexpected)?;
        welcome.version = self.version;
        let interval = welcome.heartbeat_interval_ms;
        let message = v1::ControlDown { message: Some(Down::Welcome(welcome)) };
        timeout(STEP_TIMEOUT, tx.write(&message)).await.map_err(|_| HelloError::TimedOut)??;
        Ok(Session::start(self.connection, self.certificate.device_id, tx, rx, interval, self.tally))
    }

    /// Turns the device away with a problem, which can say when to come back. A close alone could not.
    pub async fn refuse_with(self, problem: v1::Problem) {
        let code = ErrorCode::from_number(problem.code.into()).unwrap_or(ErrorCode::Internal);
        let reason = problem.message.clone();
        if let Some((mut tx, _rx)) = self.control {
            let told = async {
                tx.write(&v1::ControlDown { message: Some(Down::Problem(problem)) }).await?;
                tx.finish().await?;
                self.connection.closed().await;
                Ok::<(), FrameError>(())
            };
            // The close says it again, shorter.
            let _ = timeout(FAREWELL, told).await;
        }
        self.connection.close(code, &reason);
    }

    /// Turns the device away, now. [`ErrorCode::Revoked`] makes it stop trying.
    pub fn refuse(self, code: ErrorCode, reason: &str) {
        self.connection.close(code, reason);
    }
}
