//! How many handshakes may be under way. Each costs the gateway keys and signatures before its peer has shown anything,
//! and QUIC's own limit covers only what has not been accepted yet.

use std::sync::Arc;

use synesis_mesh::gateway::{GatewayEndpoint, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes under way at the same time. At ten seconds each for those that never finish, and well under one for
/// the others, all devices of a gateway can come back within seconds.
const MOST: usize = 1024;

/// The door: lets so many in at a time, and asks for proof of the address when it gets crowded.
#[derive(Clone)]
pub(crate) struct Handshakes {
    free: Arc<Semaphore>,
    most: usize,
}

/// Room for one handshake; given back when dropped.
pub(crate) struct Room(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Default for Handshakes {
    fn default() -> Self {
        Self::at_most(MOST)
    }
}

impl Handshakes {
    pub(crate) fn at_most(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), most }
    }

    /// The next peer there is room for, or `None` when the endpoint was closed. While there is no room, peers wait in
    /// QUIC's own bounded queue, and what does not fit that is refused there. Cancel safe.
    pub(crate) async fn admit(&self, endpoint: &GatewayEndpoint) -> Option<(Incoming, Room)> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        loop {
            let incoming = endpoint.accept().await?;
            let incoming = if self.is_crowded() { incoming.retry() } else { Some(incoming) };
            if let Some(incoming) = incoming {
                return Some((incoming, Room(permit)));
            }
        }
    }

    /// Fewer than half are free: a sender of forged addresses no longer gets further than its first packet.
    fn is_crowded(&self) -> bool {
        self.free.available_permits() * 2 < self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_crowded_once_fewer_than_half_are_free() {
        let door = Handshakes::at_most(4);
        let mut inside = Vec::new();
        let crowded = std::iter::from_fn(|| {
            let seen = door.is_crowded();
            inside.push(Arc::clone(&door.free).try_acquire_owned().ok()?);
            Some(seen)
        });
        assert_eq!(crowded.collect::<Vec<_>>(), [false, false, false, true]);
        assert!(door.is_crowded());
        inside.clear();
        assert!(!door.is_crowded());
    }
}
