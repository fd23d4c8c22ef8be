//! The streams of adapters: files in, files out, and what the account has. The bytes wait for everything else, and end
//! at once when the gateway wants the device to move: they go on elsewhere.

mod catalogue;
mod pull;
mod push;

use std::time::Duration;

pub(super) use catalogue::serve as catalogue;
use prost::Message;
pub(super) use pull::serve as pull;
pub(super) use push::serve as push;
use synesis_mesh::frame::FrameError;
use synesis_mesh::kind::ErrorCode;
use synesis_mesh::stream::WorkStream;
use synesis_proto::mesh::v1;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::adapters::AdapterStoreError;
use crate::control_plane::{AdapterFacts, AdapterRecord};
use crate::limits::{self, Class};

/// A question has to follow the stream's header within this time, and a last word has so long to arrive.
const STEP: Duration = Duration::from_secs(10);
/// Between two frames of a file. Asks go first, so a busy path may leave adapters waiting for a while.
const SILENCE: Duration = Duration::from_secs(300);

/// Serves one stream of a file: `work` until the device or the gateway goes, then the last word, if `work` has one.
async fn serve<T, M: Message>(
    mut stream: WorkStream,
    device: Uuid,
    leave: CancellationToken,
    work: impl AsyncFnOnce(&mut WorkStream) -> Result<T, StreamError>,
    last: impl FnOnce(Result<T, v1::Problem>) -> Option<M>,
) {
    let gone = stream.tx.stopped();
    let outcome = tokio::select! {
        biased;
        () = gone => return,
        () = leave.cancelled() => Err(StreamError::Leaving),
        outcome = work(&mut stream) => outcome,
    };
    let last = match outcome {
        Ok(done) => last(Ok(done)),
        Err(error) => {
            tracing::debug!(%device, %error, "a stream of an adapter ended early");
            match error.problem() {
                Some(problem) => last(Err(problem)),
                None => return,
            }
        }
    };
    let farewell = async {
        if let Some(last) = last {
            stream.tx.write(&last).await?;
        }
        stream.tx.finish().await?;
        stream.rx.stop(ErrorCode::Cancelled);
        stream.tx.stopped().await;
        Ok::<(), FrameError>(())
    };
    // The rest of a file may be on its way for a while, but a stop does not wait for it.
    let stopping = async {
        leave.cancelled().await;
        sleep(STEP).await;
    };
    tokio::select! {
        // Who cannot be told asks again.
        _ = timeout(SILENCE, farewell) => {}
        () = stopping => {}
    }
}

/// Why a stream of adapters ends before its time.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    /// The device gets told, if it listens.
    #[error(transparent)]
    Store(#[from] AdapterStoreError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the device sent nothing, or took nothing, for too long")]
    Silent,
    #[error("the gateway is stopping")]
    Leaving,
    #[error("this device made too many adapter uploads in too short a time")]
    TooMany(Duration),
    #[error("another stream of this device goes on with the file")]
    Superseded,
}

impl StreamError {
    /// What the device is told; none: it is gone, or broke off itself.
    fn problem(&self) -> Option<v1::Problem> {
        match self {
            Self::Store(error) => Some(error.problem()),
            Self::Frame(FrameError::ConnectionLost(_) | FrameError::Reset(_) | FrameError::Io(_)) => None,
            Self::Frame(error) => Some(error.code().problem(error.to_string(), "update the device")),
            Self::Silent => Some(ErrorCode::DeadlineExceeded.problem(self.to_string(), "try again")),
            Self::Leaving => {
                Some(ErrorCode::Draining.problem(self.to_string(), "it goes on by itself in a little while"))
            }
            Self::TooMany(wait) => Some(limits::problem(Class::AdapterUpload, *wait)),
            Self::Superseded => Some(ErrorCode::Cancelled.problem(self.to_string(), "")),
        }
    }
}

impl From<AdapterRecord> for v1::StoredAdapter {
    fn from(record: AdapterRecord) -> Self {
        let AdapterRecord { adapter, pushed_by, pushed_at_ms } = record;
        let AdapterFacts { architecture, rank, alpha, base_model } = adapter.facts;
        Self {
            name: adapter.name,
            sha256: adapter.sha256.to_string(),
            size_bytes: adapter.size_bytes,
            facts: Some(v1::AdapterFacts { architecture, rank, alpha, base_model }),
            pushed_by: pushed_by.to_string(),
            pushed_at_ms,
        }
    }
}
