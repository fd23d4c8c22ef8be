//! What pushes and pulls have in common.

use std::time::Duration;

use synesis_mesh::frame::FrameError;
use tokio::time::timeout;

use super::TransferError;

/// Between two frames of a file. Everything else goes before adapters, so a busy path may leave them waiting; a path that
/// is dead is noticed by the tunnel long before.
pub(super) const SILENCE: Duration = Duration::from_secs(300);

/// Hears how many bytes are at the other end.
pub(super) trait Watcher: Send + Sync {
    fn moved(&self, bytes: u64);
    fn verifying(&self);
}

/// A frame, in time.
pub(super) async fn in_time<T>(
    frame: impl Future<Output = Result<T, FrameError>>,
) -> Result<T, TransferError> {
    Ok(timeout(SILENCE, frame).await.map_err(|_| TransferError::Silent)??)
}

/// What was said, although the gateway may want to hear no more: then what it says itself tells why.
pub(super) fn unless_refused(said: Result<(), TransferError>) -> Result<(), TransferError> {
    match said {
        Err(TransferError::Stream(FrameError::Reset(_))) => Ok(()),
        other => other,
    }
}
