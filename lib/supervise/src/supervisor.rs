//! The ordered start: each subsystem begins when the one before it is ready.

use std::{future::pending, pin::pin, sync::Arc};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    HealthBoard, Running, Spec, StartError, StopReport, Subsystem,
    keeper::{Keeper, late_note},
    running::Kept,
    slot::{Slot, Startup},
    spec::Importance,
};

/// The subsystems of a process in start order, not started yet.
pub struct Supervisor {
    board: HealthBoard,
    entries: Vec<Entry>,
    rng: StdRng,
}

struct Entry {
    spec: Spec,
    subsystem: Box<dyn Subsystem>,
    slot: Arc<Slot>,
}

/// Why the start can't go on.
enum Obstacle {
    GaveUp(crate::GaveUp),
    NotReady(Spec),
    Interrupted,
}

impl Supervisor {
    /// A supervisor that reports to `board`.
    #[must_use]
    pub fn new(board: HealthBoard) -> Self {
        Self { board, entries: Vec::new(), rng: rand::make_rng() }
    }

    /// Makes the restart delays repeatable.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.rng = StdRng::seed_from_u64(seed);
        self
    }

    /// Adds a subsystem, to be started after those added before it and stopped before them.
    #[must_use]
    pub fn add(mut self, spec: Spec, subsystem: impl Subsystem) -> Self {
        let slot = Arc::new(Slot::new(&self.board, &spec));
        self.entries.push(Entry { spec, subsystem: Box::new(subsystem), slot });
        self
    }

    /// Starts everything in order; resolves when the last one is ready (or, if degradable, late or failed).
    ///
    /// Dropping the future aborts what has started; [`start_until`](Self::start_until) stops it in order instead.
    ///
    /// # Errors
    /// An essential subsystem was not ready in time or gave up; what had started has been stopped.
    pub async fn start(self) -> Result<Running, StartError> {
        self.start_until(pending()).await
    }

    /// Like [`start`](Self::start), but gives the start up in good order as soon as `stop` resolves.
    ///
    /// # Errors
    /// As [`start`](Self::start), and [`StartError::Interrupted`].
    pub async fn start_until(mut self, stop: impl Future<Output = ()>) -> Result<Running, StartError> {
        let mut stop = pin!(stop);
        let mut running = Running::new(self.board.clone());
        let mut entries = std::mem::take(&mut self.entries).into_iter();
        while let Some(entry) = entries.next() {
            let spec = entry.spec.clone();
            let slot = Arc::clone(&entry.slot);
            running.kept.push(self.keep(entry, &running.failed));
            let gave_up = running.failed();
            let begun = Instant::now();
            let obstacle = tokio::select! {
                biased;
                () = &mut stop => Some(Obstacle::Interrupted),
                gave_up = gave_up => Some(Obstacle::GaveUp(gave_up)),
                startup = first_ready(&slot, &spec) => startup.err(),
            };
            if let Some(obstacle) = obstacle {
                entries.for_each(|entry| entry.slot.stopped("was never started"));
                let last = last_fault(&slot);
                let report = running.stop().await;
                return Err(obstacle.into_error(last, report));
            }
            tracing::debug!(subsystem = spec.name, took = ?begun.elapsed(), "started");
        }
        Ok(running)
    }

    fn keep(&mut self, entry: Entry, failed: &Arc<watch::Sender<Option<crate::GaveUp>>>) -> Kept {
        let Entry { spec, subsystem, slot } = entry;
        let stop = CancellationToken::new();
        let keeper = Keeper {
            spec: spec.clone(),
            subsystem,
            slot: Arc::clone(&slot),
            stop: stop.clone(),
            failed: Arc::clone(failed),
            rng: StdRng::seed_from_u64(self.rng.random()),
        };
        let mut task = JoinSet::new();
        task.spawn(keeper.keep());
        Kept { spec, slot, stop, task }
    }
}

/// Waits for the first readiness, as long as the spec allows. A degradable subsystem that is late is left behind.
async fn first_ready(slot: &Slot, spec: &Spec) -> Result<(), Obstacle> {
    let mut startup = slot.startup.subscribe();
    if timeout(spec.start_timeout, startup.wait_for(Startup::is_over)).await.is_ok() {
        return Ok(());
    }
    if spec.importance == Importance::Essential {
        return Err(Obstacle::NotReady(spec.clone()));
    }
    tracing::warn!(subsystem = spec.name, after = ?spec.start_timeout, "not ready in time, starting without it");
    slot.late(late_note(spec));
    slot.startup.send_if_modified(|startup| {
        let waiting = !startup.is_over();
        if waiting {
            *startup = Startup::Abandoned;
        }
        waiting
    });
    Ok(())
}

fn last_fault(slot: &Slot) -> Option<crate::Fault> {
    match &*slot.startup.borrow() {
        Startup::Waiting(last) => last.clone(),
        Startup::Ready | Startup::Abandoned => None,
    }
}

impl Obstacle {
    fn into_error(self, last: Option<crate::Fault>, stop: StopReport) -> StartError {
        match self {
            Self::GaveUp(gave_up) => StartError::GaveUp { gave_up, stop },
            Self::NotReady(spec) => {
                StartError::NotReady { name: spec.name, after: spec.start_timeout, last, stop }
            }
            Self::Interrupted => StartError::Interrupted { stop },
        }
    }
}
