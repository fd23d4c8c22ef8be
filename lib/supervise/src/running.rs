//! The started subsystems: which failure ends the process, and the ordered stop.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{Fault, GaveUp, HealthBoard, Spec, announce, sd::Notifier, slot::Slot, spec::Importance};

/// How long an aborted task may take to let go. It is dropped at its next await point, so only one that blocks its
/// thread takes longer; the stop does not wait for that.
const ABORT_GRACE: Duration = Duration::from_millis(500);

/// Everything that was started. Dropping it aborts all of it at once; [`stop`](Self::stop) ends it in order.
pub struct Running {
    pub(crate) board: HealthBoard,
    /// In start order.
    pub(crate) kept: Vec<Kept>,
    pub(crate) failed: Arc<watch::Sender<Option<GaveUp>>>,
    announcer: JoinSet<()>,
    notifier: Option<Notifier>,
}

/// One subsystem with the task that keeps it.
pub(crate) struct Kept {
    pub(crate) spec: Spec,
    pub(crate) slot: Arc<Slot>,
    pub(crate) stop: CancellationToken,
    /// Exactly one task; a set, because a set aborts its tasks when dropped.
    pub(crate) task: JoinSet<Option<Fault>>,
}

/// How an ordered stop went.
#[derive(Debug, Clone, Default)]
pub struct StopReport {
    /// Who did not stop within its grace and was aborted, in stop order.
    pub late: Vec<&'static str>,
    /// Who stopped in time but with an error or a panic, in stop order.
    pub faults: Vec<(&'static str, Fault)>,
}

impl StopReport {
    /// Everybody stopped in time and without a fault.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.late.is_empty() && self.faults.is_empty()
    }
}

impl Running {
    pub(crate) fn new(board: HealthBoard) -> Self {
        Self {
            board,
            kept: Vec::new(),
            failed: Arc::new(watch::Sender::new(None)),
            announcer: JoinSet::new(),
            notifier: None,
        }
    }

    /// Resolves with the first essential subsystem that gives up, now or in the past; otherwise never. The future does
    /// not borrow, so it can be raced against signals while `self` stays free to be stopped.
    pub fn failed(&self) -> impl Future<Output = GaveUp> + Send + use<> {
        let mut failed = self.failed.subscribe();
        async move {
            let first = failed.wait_for(Option::is_some).await.ok().and_then(|first| first.clone());
            match first {
                Some(gave_up) => gave_up,
                None => pending().await,
            }
        }
    }

    /// Tells the service manager READY, then keeps its STATUS line true and feeds its watchdog while every essential
    /// subsystem that ticks keeps ticking. [`stop`](Self::stop) tells it STOPPING.
    pub fn announce(&mut self, notifier: Notifier) {
        let essential = self.kept.iter().filter(|kept| kept.spec.importance == Importance::Essential);
        let watched = essential.map(|kept| Arc::clone(&kept.slot)).collect();
        self.notifier = Some(notifier.clone());
        self.announcer.abort_all();
        self.announcer.spawn(announce::run(notifier, self.board.subscribe(), watched));
    }

    /// Stops the subsystems in reverse start order, each within its grace. Whoever is late is aborted and named.
    pub async fn stop(mut self) -> StopReport {
        // The announcer first: after STOPPING nothing else may claim the service is well. From then on the service
        // manager's watchdog rests and its stop timeout counts.
        self.announcer.shutdown().await;
        if let Some(notifier) = &self.notifier
            && let Err(error) = notifier.stopping()
        {
            tracing::warn!(%error, "cannot tell the service manager that the service stops");
        }
        let mut report = StopReport::default();
        while let Some(kept) = self.kept.pop() {
            kept.stop(&mut report).await;
        }
        report
    }
}

impl Kept {
    async fn stop(mut self, report: &mut StopReport) {
        let name = self.spec.name;
        self.stop.cancel();
        match timeout(self.spec.grace, self.task.join_next()).await {
            Ok(Some(Ok(None))) | Ok(None) => tracing::debug!(subsystem = name, "stopped"),
            Ok(Some(Ok(Some(fault)))) => report.faults.push((name, fault)),
            // The keeper catches what the subsystem throws; reaching this means the keeper itself is wrong.
            Ok(Some(Err(error))) => {
                self.slot.stopped("its keeper failed");
                report.faults.push((name, Fault::Failed(Arc::new(error))));
            }
            Err(_late) => {
                tracing::warn!(subsystem = name, grace = ?self.spec.grace, "did not stop in time, aborted");
                self.slot.stopped("did not stop in time and was aborted");
                report.late.push(name);
                self.task.abort_all();
                // The next one in line may be what this one still uses, so wait until it has let go.
                let _ = timeout(ABORT_GRACE, self.task.join_next()).await;
            }
        }
    }
}
