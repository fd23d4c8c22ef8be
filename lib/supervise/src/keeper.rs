//! Runs one subsystem again and again until it is asked to stop or, being essential, gives up.

use std::{future::pending, sync::Arc};

use rand::rngs::StdRng;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    BoxError, Context, Fault, GaveUp, Spec, State, Subsystem,
    catch::Catch,
    slot::{Note, Slot, Startup},
    spec::Importance,
};

pub(crate) struct Keeper {
    pub(crate) spec: Spec,
    pub(crate) subsystem: Box<dyn Subsystem>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) stop: CancellationToken,
    /// The first essential subsystem to give up, for the whole supervisor.
    pub(crate) failed: Arc<watch::Sender<Option<GaveUp>>>,
    pub(crate) rng: StdRng,
}

/// How one run ended.
struct Ended {
    /// `None` after an `Ok`.
    fault: Option<Fault>,
    /// It had been ready for the stable period.
    was_stable: bool,
}

impl Keeper {
    /// Returns when the subsystem is over for good: with the fault that happened while it was stopping, if one did.
    pub(crate) async fn keep(mut self) -> Option<Fault> {
        let mut failures = 0;
        loop {
            let ended = self.run_once().await;
            if self.stop.is_cancelled() {
                return self.stopped(ended.fault);
            }
            let fault = ended.fault.unwrap_or(Fault::Returned);
            failures = if ended.was_stable { 1 } else { failures + 1 };
            if failures >= self.spec.max_tries && self.spec.importance == Importance::Essential {
                self.give_up(failures, fault);
                return None;
            }
            let delay = self.spec.backoff.delay(failures - 1, &mut self.rng);
            self.report(failures, fault, delay);
            if self.stop.run_until_cancelled(sleep(delay)).await.is_none() {
                return self.stopped(None);
            }
        }
    }

    async fn run_once(&mut self) -> Ended {
        let scope = self.stop.child_token();
        // Whatever the run leaves behind is told to leave too.
        let _told = scope.clone().drop_guard();
        let cx = Context::begin(Arc::clone(&self.slot), scope);
        let restarted = self.slot.startup.borrow().is_over();
        let mut run = Catch::new(self.subsystem.run(&cx));
        let outcome = tokio::select! {
            biased;
            outcome = &mut run => Some(outcome),
            // The supervisor itself watches the first start.
            () = overdue(&cx, &self.spec), if restarted => match self.spec.importance {
                Importance::Essential => None,
                Importance::Degradable => {
                    self.slot.late(late_note(&self.spec));
                    Some((&mut run).await)
                }
            },
        };
        drop(run);
        self.slot.pulse.end();
        let was_stable = cx.ready_since().is_some_and(|since| since.elapsed() >= self.spec.stable_after);
        Ended { fault: fault_of(outcome, &self.spec), was_stable }
    }

    fn stopped(&self, fault: Option<Fault>) -> Option<Fault> {
        if let Some(fault) = &fault {
            tracing::warn!(subsystem = self.spec.name, fault = fault.sentence(), "failed while stopping");
        }
        self.slot.stopped(&fault.as_ref().map(Fault::sentence).unwrap_or_default());
        fault
    }

    fn give_up(&self, tries: u32, cause: Fault) {
        let name = self.spec.name;
        let reason = cause.sentence();
        tracing::error!(subsystem = name, tries, fault = reason, "gave up");
        self.slot.fault(
            State::Failed,
            Note { reason, next_step: "the process cannot work without it and ends".to_owned() },
        );
        let gave_up = GaveUp { name, tries, cause };
        self.failed.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(gave_up);
            }
            is_first
        });
    }

    /// Says on the board and in the log that a run failed and when the next one is due.
    fn report(&self, failures: u32, fault: Fault, delay: std::time::Duration) {
        let name = self.spec.name;
        let tries = self.spec.max_tries;
        let reason = fault.sentence();
        let next_step = format!("restarts by itself in {:.1} s (failure {failures})", delay.as_secs_f64());
        let state = if failures < tries {
            tracing::warn!(subsystem = name, fault = reason, failures, ?delay, "failed, will be restarted");
            State::Degraded
        } else if failures == tries {
            tracing::error!(subsystem = name, fault = reason, failures, ?delay, "keeps failing");
            State::Failed
        } else {
            tracing::warn!(subsystem = name, fault = reason, failures, ?delay, "still failing");
            State::Failed
        };
        self.slot.fault(state, Note { reason, next_step });
        self.slot.startup.send_if_modified(|startup| {
            let waiting = !startup.is_over();
            if waiting {
                // The start does not wait for a subsystem that has failed.
                *startup =
                    if state == State::Failed { Startup::Abandoned } else { Startup::Waiting(Some(fault)) };
            }
            waiting
        });
    }
}

/// What the board says about a subsystem that takes too long to become ready.
pub(crate) fn late_note(spec: &Spec) -> Note {
    Note {
        reason: format!("not ready after {:?}", spec.start_timeout),
        next_step: "the rest works without it; it may still become ready".to_owned(),
    }
}

/// Resolves when the run has not become ready in time; never, when it has.
async fn overdue(cx: &Context, spec: &Spec) {
    if timeout(spec.start_timeout, cx.until_ready()).await.is_ok() {
        pending::<()>().await;
    }
}

/// `None` stands for a run that was cut off because it did not become ready.
fn fault_of(outcome: Option<Result<Result<(), BoxError>, String>>, spec: &Spec) -> Option<Fault> {
    match outcome {
        Some(Ok(Ok(()))) => None,
        Some(Ok(Err(error))) => Some(Fault::Failed(error.into())),
        Some(Err(panic)) => Some(Fault::Panicked(panic)),
        None => Some(Fault::NotReady(spec.start_timeout)),
    }
}
