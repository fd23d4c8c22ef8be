//! Giving a hold back. A store that is busy for a moment must not keep a customer's money until the next start.

use std::time::Duration;

use tokio::time::sleep;

use crate::control_plane::{ControlPlane, RequestKey};
use crate::failure::chain;

/// How long to wait after each failure but the last; together well within the time a session has to stop.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_millis(1500)];

/// Gives back what the request holds, if it holds anything.
pub(super) async fn release(plane: &dyn ControlPlane, key: &RequestKey) {
    if let Err(error) = persistently(|| plane.release(key)).await {
        tracing::error!(request = %key, error = chain(&error), "a hold could not be released; it is at the next start");
    }
}

async fn persistently<T, E, F: Future<Output = Result<T, E>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, E> {
    for pause in PAUSES {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(_) => sleep(pause).await,
        }
    }
    attempt().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outcome, and the attempts it took, when the first `failures` fail.
    async fn after(failures: u32) -> (Result<u32, u32>, u32) {
        let mut attempts = 0;
        let outcome = persistently(|| {
            attempts += 1;
            std::future::ready(if attempts > failures { Ok(attempts) } else { Err(attempts) })
        });
        (outcome.await, attempts)
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_a_moment_is_tried_again() {
        assert_eq!(after(0).await, (Ok(1), 1));
        assert_eq!(after(3).await, (Ok(4), 4));
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_failing_is_given_up_with_the_last_reason() {
        assert_eq!(after(99).await, (Err(4), 4));
    }
}
