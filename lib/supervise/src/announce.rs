//! Keeps the service manager informed: ready once, the status line when it changes, the watchdog while all is alive.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{Health, health::summary, sd::Notifier, slot::Slot};

/// How soon a READY that could not be sent is sent again.
const RETRY: Duration = Duration::from_millis(200);

/// Runs until it is aborted. `watched` are the essential subsystems.
pub(crate) async fn run(
    notifier: Notifier,
    mut board: watch::Receiver<Vec<Health>>,
    watched: Vec<Arc<Slot>>,
) {
    ready(&notifier).await;
    let mut feeding = notifier.watchdog_interval().map(feeding_times);
    let mut told = None;
    let mut hung = None;
    loop {
        let status = summary(&board.borrow_and_update());
        if told.as_ref() != Some(&status) {
            report(notifier.status(&status));
            told = Some(status);
        }
        tokio::select! {
            changed = board.changed() => if changed.is_err() { return pending().await },
            () = next(feeding.as_mut()) => feed(&notifier, &watched, &mut hung),
        }
    }
}

/// A lost READY would make the start time out, so it alone is repeated until it is out.
async fn ready(notifier: &Notifier) {
    while let Err(error) = notifier.ready() {
        tracing::warn!(%error, "cannot tell the service manager that the service is ready, trying again");
        tokio::time::sleep(RETRY).await;
    }
}

/// Three times per watchdog period: one lost datagram or one late wake-up does not kill a healthy process.
fn feeding_times(period: Duration) -> Interval {
    let mut times = interval((period / 3).max(Duration::from_millis(1)));
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    times
}

async fn next(times: Option<&mut Interval>) {
    match times {
        Some(times) => {
            times.tick().await;
        }
        None => pending().await,
    }
}

/// Feeds the watchdog unless someone is overdue; says so once per culprit.
fn feed(notifier: &Notifier, watched: &[Arc<Slot>], hung: &mut Option<&'static str>) {
    let culprit = watched.iter().find(|slot| slot.pulse.overdue()).map(|slot| slot.name);
    match culprit {
        None => report(notifier.watchdog()),
        Some(name) if *hung != culprit => {
            tracing::error!(subsystem = name, "hangs; the watchdog is no longer fed");
        }
        Some(_) => {}
    }
    *hung = culprit;
}

fn report(sent: Result<(), crate::sd::NotifyError>) {
    if let Err(error) = sent {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
