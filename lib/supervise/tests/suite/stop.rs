//! Stopping: in reverse, each within its grace, whatever the subsystem is doing at that moment.

use std::time::Duration;

use synesis_supervise::{Backoff, Context, Fault, HealthBoard, Spec, State, Supervisor};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::part::{Diary, Part, SECOND, deaf, noted, states, until, well_behaved};

#[tokio::test(start_paused = true)]
async fn subsystems_stop_in_reverse_order() {
    let (board, diary) = (HealthBoard::new(), Diary::default());
    let running = Supervisor::new(board.clone())
        .add(Spec::essential("journal"), noted(&diary, "journal"))
        .add(Spec::degradable("tunnel"), noted(&diary, "tunnel"))
        .add(Spec::essential("ipc"), noted(&diary, "ipc"))
        .start()
        .await
        .unwrap();
    assert!(running.stop().await.is_clean());
    assert_eq!(diary.lines()[3..], ["ipc stops", "tunnel stops", "journal stops"]);
    assert!(states(&board).iter().all(|(_, state)| *state == State::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_late_subsystem_is_aborted_after_its_grace_and_named_and_the_rest_still_stops() {
    let (board, diary) = (HealthBoard::new(), Diary::default());
    let (held, released) = oneshot::channel::<()>();
    let mut held = Some(held);
    let running = Supervisor::new(board.clone())
        .add(Spec::essential("journal"), noted(&diary, "journal"))
        .add(
            Spec::degradable("tunnel").grace(4 * SECOND),
            Part(move |cx: Context| {
                let held = held.take();
                async move {
                    let _held = held;
                    deaf(cx).await
                }
            }),
        )
        .add(Spec::essential("ipc"), noted(&diary, "ipc"))
        .start()
        .await
        .unwrap();
    let begun = Instant::now();
    let report = running.stop().await;
    assert_eq!(report.late, ["tunnel"]);
    assert!(report.faults.is_empty());
    assert_eq!(begun.elapsed(), 4 * SECOND);
    assert!(released.await.is_err(), "what it held was dropped");
    assert_eq!(diary.lines()[2..], ["ipc stops", "journal stops"]);
    let (reason, _) = until(&board, "tunnel", State::Stopped).await;
    assert_eq!(reason, "did not stop in time and was aborted");
}

#[tokio::test(start_paused = true)]
async fn a_subsystem_that_uses_its_grace_is_not_late() {
    let running = Supervisor::new(HealthBoard::new())
        .add(
            Spec::essential("ipc").grace(4 * SECOND),
            Part(|cx: Context| async move {
                well_behaved(cx).await?;
                sleep(3 * SECOND).await;
                Ok(())
            }),
        )
        .start()
        .await
        .unwrap();
    assert!(running.stop().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_backoff_does_not_wait_for_the_next_try() {
    let board = HealthBoard::new();
    let hour = 3_600 * SECOND;
    let running = Supervisor::new(board.clone())
        .with_seed(7)
        .add(
            Spec::degradable("tunnel").backoff(Backoff { base: hour, cap: hour }),
            Part(|cx: Context| async move {
                cx.ready();
                Err("refused".into())
            }),
        )
        .start()
        .await
        .unwrap();
    until(&board, "tunnel", State::Degraded).await;
    let begun = Instant::now();
    assert!(running.stop().await.is_clean());
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(states(&board), [("tunnel", State::Stopped)]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_an_error_while_stopping_is_reported_and_the_rest_still_stops() {
    let (board, diary) = (HealthBoard::new(), Diary::default());
    let running = Supervisor::new(board.clone())
        .add(Spec::essential("journal"), noted(&diary, "journal"))
        .add(
            Spec::degradable("vitals"),
            Part(|cx: Context| async move {
                well_behaved(cx).await?;
                Err("cannot flush".into())
            }),
        )
        .add(
            Spec::essential("ipc"),
            Part(|cx: Context| async move {
                well_behaved(cx).await?;
                panic!("double free")
            }),
        )
        .start()
        .await
        .unwrap();
    let report = running.stop().await;
    assert!(report.late.is_empty());
    let faults: Vec<_> = report.faults.iter().map(|(name, fault)| (*name, fault.sentence())).collect();
    assert_eq!(faults, [("ipc", "panicked: double free".to_owned()), ("vitals", "cannot flush".to_owned())]);
    assert!(matches!(report.faults[0].1, Fault::Panicked(_)));
    assert_eq!(diary.lines(), ["journal starts", "journal stops"]);
    let (reason, _) = until(&board, "ipc", State::Stopped).await;
    assert_eq!(reason, "panicked: double free");
}

#[tokio::test(start_paused = true)]
async fn dropping_everything_aborts_everything() {
    let (held, released) = oneshot::channel::<()>();
    let mut held = Some(held);
    let running = Supervisor::new(HealthBoard::new())
        .add(
            Spec::essential("ipc"),
            Part(move |cx: Context| {
                let held = held.take();
                async move {
                    let _held = held;
                    deaf(cx).await
                }
            }),
        )
        .start()
        .await
        .unwrap();
    drop(running);
    assert!(released.await.is_err());
}
