//! One enrolment or late renewal: a request comes in, an answer goes out, the connection ends.

use std::net::SocketAddr;
use std::time::Duration;

use synesis_proto::mesh::v1;
use tokio::time::timeout;

use super::{HelloError, PeerCertificate, STEP_TIMEOUT};
use crate::carrier::Connection;
use crate::frame::{FrameError, FrameReader, FrameWriter};
use crate::kind::{ErrorCode, MAX_ENROLL_FRAME};
use crate::stream::{RawStream, RecvHalf, SendHalf};

/// How long an answered device may take to hang up.
const FAREWELL: Duration = Duration::from_secs(5);

/// A peer that wants to become a device, with nothing but the token in its request; or a device whose certificate has
/// expired.
#[derive(Debug)]
pub struct EnrollConnection {
    connection: Connection,
    certificate: Option<PeerCertificate>,
    stream: Option<(FrameWriter<SendHalf>, FrameReader<RecvHalf>)>,
}

impl EnrollConnection {
    pub(super) fn new(connection: Connection, certificate: Option<PeerCertificate>) -> Self {
        Self { connection, certificate, stream: None }
    }

    /// What the peer proved itself with, if it did: it may be renewed (`EnrollRequest.renew`), even when it has expired.
    pub fn certificate(&self) -> Option<&PeerCertificate> {
        self.certificate.as_ref()
    }

    /// Where the peer is.
    pub fn remote(&self) -> SocketAddr {
        self.connection.remote()
    }

    /// The request; the peer has ten seconds to send it.
    ///
    /// # Errors
    /// When it does not come, does not decode, or is too large. The connection is then closed.
    pub async fn request(&mut self) -> Result<v1::EnrollRequest, HelloError> {
        let read = async {
            let raw = RawStream::new(self.connection.accept().await.map_err(HelloError::Lost)?, None);
            let (tx, mut rx) = (raw.tx.with_limit(MAX_ENROLL_FRAME), raw.rx.with_limit(MAX_ENROLL_FRAME));
            let request = rx.read().await?.ok_or(FrameError::Truncated)?;
            Ok((request, (tx, rx)))
        };
        match timeout(STEP_TIMEOUT, read).await.unwrap_or(Err(HelloError::TimedOut)) {
            Ok((request, stream)) => {
                self.stream = Some(stream);
                Ok(request)
            }
            Err(error) => {
                self.connection.close(error.code(), &error.to_string());
                Err(error)
            }
        }
    }

    /// Answers, and waits a moment for the device to have it.
    ///
    /// # Errors
    /// When the device is gone. It may or may not have the answer.
    pub async fn reply(self, reply: v1::EnrollReply) -> Result<(), HelloError> {
        // Without a request there is nobody to answer.
        let (mut tx, _rx) = self.stream.ok_or(FrameError::Truncated)?;
        timeout(STEP_TIMEOUT, async {
            tx.write(&reply).await?;
            tx.finish().await
        })
        .await
        .map_err(|_| HelloError::TimedOut)??;
        if timeout(FAREWELL, self.connection.closed()).await.is_err() {
            self.connection.leave("");
        }
        Ok(())
    }

    /// Answers with a problem.
    ///
    /// # Errors
    /// Like [`Self::reply`].
    pub async fn refuse(self, code: ErrorCode, message: &str, next_step: &str) -> Result<(), HelloError> {
        let problem = code.problem(message, next_step);
        self.reply(v1::EnrollReply { message: Some(v1::enroll_reply::Message::Problem(problem)) }).await
    }
}
