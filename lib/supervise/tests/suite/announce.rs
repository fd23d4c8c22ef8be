//! What the service manager hears of a running supervisor, second by (paused) second.

use std::time::Duration;

use synesis_supervise::{Context, HealthBoard, Running, Spec, Supervisor};
use tokio::time::{interval, sleep};

use crate::{
    notify::ServiceManager,
    part::{Outcome, Part, SECOND, well_behaved},
};

const WATCHDOG: Option<Duration> = Some(Duration::from_secs(30));

/// Ticks every second for `alive`, then hangs until it is asked to stop.
async fn hangs_after(alive: Duration, cx: Context) -> Outcome {
    cx.ready();
    let mut seconds = interval(SECOND);
    let hang = sleep(alive);
    tokio::pin!(hang);
    loop {
        tokio::select! {
            _ = seconds.tick() => cx.tick(),
            () = &mut hang => break,
        }
    }
    cx.stopping().cancelled().await;
    Ok(())
}

async fn start(supervisor: Supervisor) -> Running {
    supervisor.start().await.unwrap()
}

fn feeds(heard: &[String]) -> usize {
    heard.iter().filter(|message| *message == "WATCHDOG=1").count()
}

#[tokio::test(start_paused = true)]
async fn the_manager_hears_ready_once_then_the_status_the_watchdog_and_the_stop() {
    let manager = ServiceManager::listen();
    let mut running =
        start(Supervisor::new(HealthBoard::new()).add(Spec::essential("ipc"), Part(well_behaved))).await;
    running.announce(manager.notifier(WATCHDOG));
    sleep(SECOND).await;
    assert_eq!(manager.heard(), ["READY=1", "STATUS=ready", "WATCHDOG=1"]);
    sleep(30 * SECOND).await;
    assert_eq!(manager.heard(), ["WATCHDOG=1"; 3], "three times per period, and the status is not repeated");
    running.stop().await;
    assert_eq!(manager.heard(), ["STOPPING=1"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_watchdog_only_changes_are_told() {
    let manager = ServiceManager::listen();
    let degrades = Part(|cx: Context| async move {
        cx.ready();
        sleep(60 * SECOND).await;
        cx.degraded("gateway not reachable", "check the network");
        well_behaved(cx).await
    });
    let mut running =
        start(Supervisor::new(HealthBoard::new()).add(Spec::degradable("tunnel"), degrades)).await;
    running.announce(manager.notifier(None));
    sleep(59 * SECOND).await;
    assert_eq!(manager.heard(), ["READY=1", "STATUS=ready"]);
    sleep(3_600 * SECOND).await;
    assert_eq!(manager.heard(), ["STATUS=degraded: tunnel is degraded (gateway not reachable)"]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_essential_subsystem_that_hangs_starves_the_watchdog() {
    let manager = ServiceManager::listen();
    let mut running = start(
        Supervisor::new(HealthBoard::new())
            .add(Spec::essential("journal"), Part(|cx| hangs_after(100 * SECOND, cx)))
            .add(Spec::essential("ipc"), Part(well_behaved)),
    )
    .await;
    running.announce(manager.notifier(WATCHDOG));
    let mut fed = 0;
    // Listened to in between: a queue holds no more than `net.unix.max_dgram_qlen` datagrams.
    for _ in 0..3 {
        sleep(33 * SECOND).await;
        fed += feeds(&manager.heard());
    }
    assert_eq!(fed, 10, "fed at 0, 10, .. 90 s");
    sleep(12 * SECOND).await;
    assert!(feeds(&manager.heard()) <= 2, "the last tick counts for the ten seconds of the default");
    sleep(600 * SECOND).await;
    assert_eq!(feeds(&manager.heard()), 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_degradable_subsystem_that_hangs_does_not() {
    let manager = ServiceManager::listen();
    let mut running = start(
        Supervisor::new(HealthBoard::new())
            .add(Spec::degradable("vitals"), Part(|cx| hangs_after(SECOND, cx)))
            .add(Spec::essential("ipc"), Part(well_behaved)),
    )
    .await;
    running.announce(manager.notifier(WATCHDOG));
    for _ in 0..10 {
        manager.heard();
        sleep(30 * SECOND).await;
        assert_eq!(feeds(&manager.heard()), 3);
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_subsystem_that_is_waiting_for_its_next_try_does_not_starve_the_watchdog() {
    let manager = ServiceManager::listen();
    let mut runs = 0;
    let fails = Part(move |cx: Context| {
        runs += 1;
        let first = runs == 1;
        async move {
            cx.ready();
            if first {
                cx.tick();
                return Err("disk full".into());
            }
            // This run does not tick: what the first one promised no longer binds it.
            well_behaved(cx).await
        }
    });
    let mut running = start(Supervisor::new(HealthBoard::new()).add(Spec::essential("journal"), fails)).await;
    running.announce(manager.notifier(WATCHDOG));
    sleep(SECOND).await;
    manager.heard();
    sleep(30 * SECOND).await;
    assert_eq!(feeds(&manager.heard()), 3);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_ready_that_finds_the_managers_queue_full_is_sent_again() {
    let manager = ServiceManager::listen();
    let notifier = manager.notifier(None);
    while notifier.status("filling the queue").is_ok() {}
    let mut running =
        start(Supervisor::new(HealthBoard::new()).add(Spec::essential("ipc"), Part(well_behaved))).await;
    running.announce(notifier);
    sleep(SECOND).await;
    assert!(manager.heard().iter().all(|message| message == "STATUS=filling the queue"));
    sleep(SECOND).await;
    assert_eq!(manager.heard(), ["READY=1", "STATUS=ready"]);
    running.stop().await;
}
