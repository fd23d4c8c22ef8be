//! Running: every way to end is the same fault, tries are counted, a stable period forgives.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use synesis_supervise::{Backoff, Context, Fault, HealthBoard, Spec, State, Supervisor};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::part::{Outcome, Part, SECOND, until, well_behaved};

/// Ends once in the given way, then behaves; returns the reason the board showed in between.
async fn reason_after(ending: fn() -> Outcome) -> String {
    let board = HealthBoard::new();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let running = Supervisor::new(board.clone())
        .add(
            Spec::essential("journal"),
            Part(move |cx: Context| {
                let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
                async move {
                    cx.ready();
                    if first { ending() } else { well_behaved(cx).await }
                }
            }),
        )
        .start()
        .await
        .unwrap();
    let (reason, next_step) = until(&board, "journal", State::Degraded).await;
    assert!(next_step.starts_with("restarts by itself in "), "{next_step}");
    until(&board, "journal", State::Ready).await;
    assert_eq!(runs.load(Ordering::Relaxed), 2);
    assert!(running.stop().await.is_clean());
    reason
}

#[tokio::test(start_paused = true)]
async fn an_error_an_early_return_and_a_panic_all_lead_to_a_restart() {
    assert_eq!(reason_after(|| Err("disk full".into())).await, "disk full");
    assert_eq!(reason_after(|| Ok(())).await, "returned although nobody asked it to stop");
    assert_eq!(reason_after(|| panic!("index out of bounds")).await, "panicked: index out of bounds");
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_first_await_is_caught_too() {
    let running = Supervisor::new(HealthBoard::new())
        .add(
            Spec::essential("journal").max_tries(2),
            Part({
                let mut runs = 0;
                move |cx: Context| {
                    runs += 1;
                    assert!(runs > 1, "first run");
                    well_behaved(cx)
                }
            }),
        )
        .start()
        .await
        .unwrap();
    assert!(running.stop().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn an_essential_subsystem_that_gives_up_is_reported_with_its_name_and_cause() {
    let board = HealthBoard::new();
    let running = Supervisor::new(board.clone())
        .add(Spec::essential("journal"), Part(well_behaved))
        .add(
            Spec::essential("ipc").max_tries(3),
            Part(|cx: Context| async move {
                cx.ready();
                sleep(SECOND).await;
                Err("socket removed".into())
            }),
        )
        .start()
        .await
        .unwrap();
    let gave_up = running.failed().await;
    assert_eq!((gave_up.name, gave_up.tries), ("ipc", 3));
    assert_eq!(gave_up.cause.sentence(), "socket removed");
    let (reason, _) = until(&board, "ipc", State::Failed).await;
    assert_eq!(reason, "socket removed");
    assert_eq!(running.failed().await.name, "ipc", "who asks later learns it as well");
    assert!(running.stop().await.is_clean(), "the others still stop in order");
}

#[tokio::test(start_paused = true)]
async fn restarts_wait_a_jittered_while_below_the_ceiling_of_their_attempt() {
    let (begins, mut begun) = mpsc::channel(16);
    let backoff = Backoff { base: 2 * SECOND, cap: 10 * SECOND };
    let running = Supervisor::new(HealthBoard::new())
        .with_seed(42)
        .add(
            Spec::degradable("tunnel").backoff(backoff).max_tries(2),
            Part(move |cx: Context| {
                let begins = begins.clone();
                async move {
                    cx.ready();
                    begins.send(Instant::now()).await?;
                    Err("refused".into())
                }
            }),
        )
        .start()
        .await
        .unwrap();
    let mut last = begun.recv().await.unwrap();
    let mut delays = Vec::new();
    for attempt in 0..12 {
        let next = begun.recv().await.unwrap();
        let delay = next - last;
        // The timer rounds up to its millisecond.
        assert!(delay <= backoff.ceiling(attempt) + Duration::from_millis(1), "{attempt}: {delay:?}");
        delays.push(delay);
        last = next;
    }
    delays.sort_unstable();
    delays.dedup();
    assert_eq!(delays.len(), 12, "no two delays are alike");
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a_degradable_subsystem_fails_visibly_but_never_ends_the_process_and_may_recover() {
    let board = HealthBoard::new();
    let mut runs = 0;
    let running = Supervisor::new(board.clone())
        .add(
            Spec::degradable("tunnel").max_tries(3),
            Part(move |cx: Context| {
                runs += 1;
                let works = runs > 20;
                async move { if works { well_behaved(cx).await } else { Err("refused".into()) } }
            }),
        )
        .start()
        .await
        .unwrap();
    let (reason, next_step) = until(&board, "tunnel", State::Failed).await;
    assert_eq!(reason, "refused");
    assert!(next_step.starts_with("restarts by itself in "), "{next_step}");
    tokio::select! {
        biased;
        gave_up = running.failed() => panic!("{gave_up}"),
        _ = until(&board, "tunnel", State::Ready) => {}
    }
    assert!(running.stop().await.is_clean());
}

/// Fails again and again after having been ready for `period`; true if it gave up within a day.
async fn gives_up_when_it_fails_every(period: Duration) -> bool {
    let running = Supervisor::new(HealthBoard::new())
        .add(
            Spec::essential("journal").stable_after(60 * SECOND).max_tries(3),
            Part(move |cx: Context| async move {
                cx.ready();
                sleep(period).await;
                Err("again".into())
            }),
        )
        .start()
        .await
        .unwrap();
    timeout(24 * 3_600 * SECOND, running.failed()).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_stable_period_forgives_earlier_failures_and_a_shorter_one_does_not() {
    assert!(!gives_up_when_it_fails_every(60 * SECOND).await);
    assert!(gives_up_when_it_fails_every(59 * SECOND).await);
}

#[tokio::test(start_paused = true)]
async fn time_without_being_ready_does_not_count_as_stable() {
    let mut runs = 0;
    let running = Supervisor::new(HealthBoard::new())
        .add(
            Spec::essential("journal").start_timeout(600 * SECOND).max_tries(3),
            Part(move |cx: Context| {
                runs += 1;
                if runs == 1 {
                    cx.ready();
                }
                async {
                    sleep(120 * SECOND).await;
                    Err("still not open".into())
                }
            }),
        )
        .start()
        .await
        .unwrap();
    assert_eq!(running.failed().await.tries, 3);
}

#[tokio::test(start_paused = true)]
async fn an_essential_subsystem_that_hangs_after_a_restart_counts_as_failed() {
    let mut runs = 0;
    let running = Supervisor::new(HealthBoard::new())
        .add(
            Spec::essential("journal").start_timeout(5 * SECOND).max_tries(2),
            Part(move |cx: Context| {
                runs += 1;
                let first = runs == 1;
                async move {
                    if first {
                        cx.ready();
                        return Err("first".into());
                    }
                    std::future::pending().await
                }
            }),
        )
        .start()
        .await
        .unwrap();
    let gave_up = running.failed().await;
    assert!(matches!(gave_up.cause, Fault::NotReady(after) if after == 5 * SECOND), "{gave_up}");
}

#[tokio::test(start_paused = true)]
async fn a_degradable_subsystem_that_is_slow_after_a_restart_is_left_to_become_ready() {
    let board = HealthBoard::new();
    let mut runs = 0;
    let running = Supervisor::new(board.clone())
        .add(
            Spec::degradable("runtime").start_timeout(5 * SECOND),
            Part(move |cx: Context| {
                runs += 1;
                let first = runs == 1;
                async move {
                    if first {
                        cx.ready();
                        return Err("model crashed".into());
                    }
                    sleep(300 * SECOND).await;
                    well_behaved(cx).await
                }
            }),
        )
        .start()
        .await
        .unwrap();
    let (reason, _) = until(&board, "runtime", State::Degraded).await;
    assert_eq!(reason, "model crashed");
    until(&board, "runtime", State::Ready).await;
    assert!(running.stop().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn degraded_and_healthy_show_on_the_board_without_a_restart() {
    let board = HealthBoard::new();
    let (network, weather) = watch::channel("up");
    let running = Supervisor::new(board.clone())
        .add(
            Spec::degradable("tunnel"),
            Part(move |cx: Context| {
                let mut weather = weather.clone();
                async move {
                    cx.ready();
                    weather.wait_for(|network| *network == "down").await?;
                    cx.degraded("gateway not reachable", "check the network");
                    weather.wait_for(|network| *network == "up").await?;
                    cx.healthy();
                    well_behaved(cx).await
                }
            }),
        )
        .start()
        .await
        .unwrap();
    network.send_replace("down");
    let said = until(&board, "tunnel", State::Degraded).await;
    assert_eq!(said, ("gateway not reachable".to_owned(), "check the network".to_owned()));
    network.send_replace("up");
    assert_eq!(until(&board, "tunnel", State::Ready).await, (String::new(), String::new()));
    assert!(running.stop().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_run_left_behind_is_told_to_leave() {
    let (leftover, told) = oneshot::channel::<CancellationToken>();
    let mut leftover = Some(leftover);
    let running = Supervisor::new(HealthBoard::new())
        .add(
            Spec::degradable("tunnel"),
            Part(move |cx: Context| {
                let leftover = leftover.take();
                async move {
                    match leftover {
                        Some(leftover) => {
                            leftover.send(cx.stopping()).unwrap();
                            cx.ready();
                            Err("refused".into())
                        }
                        None => well_behaved(cx).await,
                    }
                }
            }),
        )
        .start()
        .await
        .unwrap();
    told.await.unwrap().cancelled().await;
    assert!(running.stop().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_subsystem_cannot_stop_itself_by_cancelling_its_token() {
    let board = HealthBoard::new();
    let running = Supervisor::new(board.clone())
        .add(
            Spec::essential("journal").max_tries(2),
            Part(|cx: Context| async move {
                cx.ready();
                cx.stopping().cancel();
                sleep(SECOND).await;
                Ok(())
            }),
        )
        .start()
        .await
        .unwrap();
    assert!(matches!(running.failed().await.cause, Fault::Returned));
}

#[tokio::test(start_paused = true)]
async fn a_subsystem_can_be_run_without_a_supervisor() {
    let (board, stop) = (HealthBoard::new(), CancellationToken::new());
    let cx = Context::detached(&board, "journal", stop.clone());
    assert_eq!(cx.name(), "journal");
    stop.cancel();
    well_behaved(cx).await.unwrap();
    until(&board, "journal", State::Ready).await;
}
