//! Who may shake hands, and how many at a time. Each handshake costs the gateway keys and signatures before its peer has
//! shown anything, and QUIC's own limit covers only what has not been accepted yet.

use std::sync::Arc;

use synesis_mesh::gateway::{GatewayEndpoint, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::limits::{REMEMBERED, Rules, Sources, UnderWay, Verdict};
use crate::metrics::Metrics;

/// The door: lets so many in at a time, of all and of one address, and asks for proof of the address when it gets
/// crowded.
#[derive(Clone)]
pub(crate) struct Handshakes {
    free: Arc<Semaphore>,
    most: usize,
    sources: Sources,
    metrics: Metrics,
}

/// Room for one handshake; given back when dropped.
pub(crate) struct Room {
    _permit: OwnedSemaphorePermit,
    under_way: UnderWay,
}

impl Room {
    /// The handshake is done: the address is proven, and the connection counts for it.
    pub(crate) fn done(self) {
        self.under_way.done(Instant::now());
    }
}

impl Handshakes {
    pub(crate) fn new(rules: &Rules, metrics: Metrics) -> Self {
        let most = rules.handshakes as usize;
        let sources = Sources::new(rules.source, REMEMBERED);
        Self { free: Arc::new(Semaphore::new(most)), most, sources, metrics }
    }

    /// The next peer there is room for, or `None` when the endpoint was closed. While there is no room, peers wait in
    /// QUIC's own bounded queue, and what does not fit that is refused there. Cancel safe.
    pub(crate) async fn admit(&self, endpoint: &GatewayEndpoint) -> Option<(Incoming, Room)> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        loop {
            let incoming = endpoint.accept().await?;
            let Some(incoming) = (if self.is_crowded() { self.prove(incoming) } else { Some(incoming) })
            else {
                continue;
            };
            match self.sources.judge(incoming.remote(), incoming.is_proven(), Instant::now()) {
                Verdict::Come(under_way) => return Some((incoming, Room { _permit: permit, under_way })),
                Verdict::Prove => drop(self.prove(incoming)),
                Verdict::Refuse => {
                    self.metrics.refused.count("source_limit");
                    incoming.refuse();
                }
            }
        }
    }

    /// Has the peer prove its address, unless it has; then it is given back.
    fn prove(&self, incoming: Incoming) -> Option<Incoming> {
        let proven = incoming.retry();
        if proven.is_none() {
            self.metrics.retries.count();
        }
        proven
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
        let door = Handshakes::new(&Rules { handshakes: 4, ..Rules::default() }, Metrics::default());
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
