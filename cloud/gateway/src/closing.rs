//! How far the gateway is on its way out. Each step is taken once, and everybody may wait for it.

use tokio_util::sync::CancellationToken;

/// The steps. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closing {
    drain: CancellationToken,
    hurry: CancellationToken,
}

impl Closing {
    /// From now on nobody is taken in: `/ready` says so first, then the tunnel.
    pub(crate) fn drain(&self) {
        self.drain.cancel();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// From now on nothing is waited for.
    pub(crate) fn hurry(&self) {
        self.hurry.cancel();
    }

    /// Resolves when nothing is to be waited for any more.
    pub(crate) async fn hurried(&self) {
        self.hurry.cancelled().await;
    }
}
