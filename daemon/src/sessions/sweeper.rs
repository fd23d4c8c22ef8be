//! Forgets idle sessions, whether or not anybody asks again.

use std::time::Duration;

use async_trait::async_trait;
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::time::interval;

use super::Sessions;

/// How much longer than promised a session may be kept.
const EVERY: Duration = Duration::from_secs(60);

/// The subsystem that does it.
#[derive(Debug)]
pub struct Sweeper {
    sessions: Sessions,
}

impl Sweeper {
    /// Over these sessions.
    pub fn new(sessions: Sessions) -> Self {
        Self { sessions }
    }
}

#[async_trait]
impl Subsystem for Sweeper {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        cx.ready();
        let (stop, mut times) = (cx.stopping(), interval(EVERY));
        loop {
            tokio::select! {
                _ = times.tick() => self.sessions.sweep(),
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}
