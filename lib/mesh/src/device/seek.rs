//! The way back to QUIC: while the tunnel runs over TCP, QUIC alone is dialled again and again beside it.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::dial::Network;
use super::link::{self, News};
use super::{Fallback, TunnelConfig};
use crate::identity::DeviceIdentity;

/// Tries until a gateway welcomes this device over QUIC, and then runs that link to its end.
pub(super) async fn run(
    mut config: TunnelConfig,
    identity: Arc<DeviceIdentity>,
    network: Arc<dyn Network>,
    news: mpsc::Sender<News>,
) {
    config.fallback = Fallback::Off;
    loop {
        sleep(jittered(config.timing.seek_every)).await;
        match link::connect(&config, &identity, &network, Duration::ZERO).await {
            Ok(welcomed) => return link::carry(welcomed, news).await,
            Err(failure) => tracing::debug!(reason = failure.reason, "still no way for QUIC"),
        }
    }
}

/// Three to five quarters of it: devices behind one firewall do not ask at the same moment.
fn jittered(around: Duration) -> Duration {
    around.mul_f64(0.75 + rand::rng().random::<f64>() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_seconds_are_fifteen_to_twenty_five() {
        let around = Duration::from_secs(20);
        let draws: Vec<_> = (0..1000).map(|_| jittered(around)).collect();
        assert!(draws.iter().all(|draw| (15.0..25.0).contains(&draw.as_secs_f64())));
        assert!(draws.iter().any(|draw| draw.as_secs_f64() < 16.0));
        assert!(draws.iter().any(|draw| draw.as_secs_f64() > 24.0));
    }
}
