//! Why a connection ended, in terms that QUIC and TLS over TCP have in common.

use std::error::Error;
use std::io;

use quinn::ConnectionError;

/// QUIC carries a TLS alert as `0x100 + alert` (RFC 9001, section 4.8).
const CRYPTO_ERRORS: std::ops::Range<u64> = 0x100..0x200;

/// QUIC's own code of an end that takes no new connection (RFC 9000, section 20.1).
const CONNECTION_REFUSED: u64 = 0x2;

/// Why a connection ended, or never came to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionLost {
    /// The other end closed it and said why.
    #[error("closed by the other end: {reason} (code {code})")]
    Closed {
        /// An [`ErrorCode`](crate::kind::ErrorCode), [`CLOSE_NORMAL`](crate::kind::CLOSE_NORMAL), or a number of a newer version.
        code: u64,
        /// Its words.
        reason: String,
    },
    /// This end closed it.
    #[error("closed by this end")]
    Local,
    /// This end did not accept what the other proved itself with.
    #[error("the other end did not prove itself: {0}")]
    Untrusted(String),
    /// The other end ended the handshake with this TLS alert.
    #[error("the other end refused the handshake (TLS alert {0})")]
    Alert(u64),
    /// The other end takes no new connection now.
    #[error("the other end takes no new connection now")]
    Refused,
    /// Nothing came for too long.
    #[error("timed out")]
    TimedOut,
    /// The other end does not know the connection: it was restarted.
    #[error("the other end forgot the connection")]
    Forgotten,
    /// No version of QUIC in common.
    #[error("no QUIC version in common")]
    Version,
    /// Anything else: the socket failed, or the other end broke the protocol below ours.
    #[error("{0}")]
    Failed(String),
}

impl From<ConnectionError> for ConnectionLost {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::Closed {
                code: close.error_code.into_inner(),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::LocallyClosed => Self::Local,
            ConnectionError::TransportError(error) if CRYPTO_ERRORS.contains(&u64::from(error.code)) => {
                Self::Untrusted(error.reason)
            }
            ConnectionError::ConnectionClosed(close)
                if CRYPTO_ERRORS.contains(&u64::from(close.error_code)) =>
            {
                Self::Alert(u64::from(close.error_code) - CRYPTO_ERRORS.start)
            }
            ConnectionError::ConnectionClosed(close) if u64::from(close.error_code) == CONNECTION_REFUSED => {
                Self::Refused
            }
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Reset => Self::Forgotten,
            ConnectionError::VersionMismatch => Self::Version,
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<&io::Error> for ConnectionLost {
    /// tokio-rustls wraps TLS errors in `io::Error`; this takes them out again.
    fn from(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::AlertReceived(alert)) => Self::Alert(u8::from(*alert).into()),
            Some(error @ rustls::Error::InvalidCertificate(_)) => Self::Untrusted(error.to_string()),
            Some(error) => Self::Failed(format!("it does not speak TLS as it should: {error}")),
            None if error.kind() == io::ErrorKind::TimedOut => Self::TimedOut,
            None => Self::Failed(error.to_string()),
        }
    }
}

impl From<yamux::ConnectionError> for ConnectionLost {
    fn from(error: yamux::ConnectionError) -> Self {
        // The socket's own error says more than what yamux makes of it, however deep it is.
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                return Self::from(io);
            }
            cause = inner.source();
        }
        Self::Failed(format!("the streams on it broke their protocol: {error}"))
    }
}
