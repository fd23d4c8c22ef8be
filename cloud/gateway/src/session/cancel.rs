//! When an answer is no longer wanted: the device says so, its end of the stream goes away, its time is up, or the
//! session ends.

use std::time::Duration;

use synesis_mesh::frame::FrameReader;
use synesis_mesh::stream::RecvHalf;
use synesis_proto::mesh::v1;
use synesis_proto::mesh::v1::ask_up::Message as Up;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Why an answer is no longer wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancel {
    /// The device asked for the end.
    Asked,
    /// The device sent something that has no place here.
    Protocol,
    /// Nobody is there to read the answer.
    Gone,
    /// The time the device gave is up.
    Deadline,
    /// The gateway is going away, or has taken the device's identity back.
    SessionEnds,
}

impl Cancel {
    /// A word for the log.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Protocol => "protocol",
            Self::Gone => "gone",
            Self::Deadline => "deadline",
            Self::SessionEnds => "session_ends",
        }
    }
}

/// Resolves with the first reason. A device that merely ends its own direction still wants the answer.
pub(super) async fn cancelled(
    mut rx: FrameReader<RecvHalf>,
    stopped: impl Future<Output = ()>,
    timeout: Option<Duration>,
    session_ends: CancellationToken,
) -> Cancel {
    // A day is longer than any answer; a deadline that does not fit the clock is none.
    let until = Instant::now() + timeout.unwrap_or(Duration::MAX).min(Duration::from_secs(24 * 3600));
    let frames = async {
        match rx.read::<v1::AskUp>().await {
            Ok(Some(v1::AskUp { message: Some(Up::Cancel(_)) })) => Cancel::Asked,
            Ok(Some(_)) => Cancel::Protocol,
            Ok(None) => std::future::pending().await,
            Err(_) => Cancel::Gone,
        }
    };
    tokio::select! {
        why = frames => why,
        () = stopped => Cancel::Gone,
        () = sleep_until(until) => Cancel::Deadline,
        () = session_ends.cancelled() => Cancel::SessionEnds,
    }
}
