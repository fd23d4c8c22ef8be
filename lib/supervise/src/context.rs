//! What a running subsystem has in its hands: it reports through it and learns from it when to stop.

use std::sync::Arc;

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    HealthBoard, Spec,
    slot::{Note, Slot},
};

/// The subsystem's line to its supervisor, good for one run. Clones may go into the tasks of that run; what they report
/// after the run has ended is ignored.
#[derive(Debug, Clone)]
pub struct Context {
    run: Arc<Run>,
}

#[derive(Debug)]
struct Run {
    slot: Arc<Slot>,
    number: u64,
    ready_since: watch::Sender<Option<Instant>>,
    scope: CancellationToken,
}

impl Context {
    pub(crate) fn begin(slot: Arc<Slot>, scope: CancellationToken) -> Self {
        let number = slot.begin_run();
        slot.pulse.begin(number);
        Self { run: Arc::new(Run { slot, number, ready_since: watch::Sender::new(None), scope }) }
    }

    /// A context without a supervisor, for running one subsystem by itself in a test. Its reports appear on `board`.
    #[must_use]
    pub fn detached(board: &HealthBoard, name: &'static str, stop: CancellationToken) -> Self {
        Self::begin(Arc::new(Slot::new(board, &Spec::degradable(name))), stop)
    }

    /// The subsystem's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.run.slot.name
    }

    /// The subsystem can do its work; the next one may start. A latch: calling it again changes nothing. It must not
    /// depend on the network: offline is [`degraded`](Self::degraded), not unready.
    pub fn ready(&self) {
        if self.run.slot.ready(self.run.number) {
            self.run.ready_since.send_if_modified(|since| {
                let first = since.is_none();
                if first {
                    *since = Some(Instant::now());
                }
                first
            });
        }
    }

    /// It works less well than it should: why, and what the user can do or expect.
    pub fn degraded(&self, reason: impl Into<String>, next_step: impl Into<String>) {
        let note = Note { reason: reason.into(), next_step: next_step.into() };
        self.run.slot.complain(self.run.number, Some(note));
    }

    /// Takes the last [`degraded`](Self::degraded) back.
    pub fn healthy(&self) {
        self.run.slot.complain(self.run.number, None);
    }

    /// Cancelled when the subsystem should stop, and when this run ends for any other reason, so that tasks it left
    /// behind leave as well. Cancelling it affects nobody else.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.run.scope.child_token()
    }

    /// Still alive. The first call opts this run in to the watchdog: from then on an essential subsystem that pauses for
    /// longer than its [`Spec::tick_within`] starves it.
    pub fn tick(&self) {
        self.run.slot.pulse.tick(self.run.number);
    }

    /// Since when this run is ready.
    pub(crate) fn ready_since(&self) -> Option<Instant> {
        *self.run.ready_since.borrow()
    }

    /// Resolves when this run is ready.
    pub(crate) async fn until_ready(&self) {
        // The sender lives in `self`, so waiting can't fail.
        let _ = self.run.ready_since.subscribe().wait_for(Option::is_some).await;
    }
}
