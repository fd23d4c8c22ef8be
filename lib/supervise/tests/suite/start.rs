//! Starting: in order, each when the one before is ready, and what happens when one is not.

use std::{future::pending, time::Duration};

use synesis_supervise::{Context, Fault, HealthBoard, Spec, StartError, State, Supervisor};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::part::{Diary, Part, SECOND, deaf, noted, states, until, well_behaved};

#[tokio::test(start_paused = true)]
async fn each_subsystem_starts_when_the_one_before_it_is_ready() {
    let (board, diary) = (HealthBoard::new(), Diary::default());
    let slow = diary.clone();
    let slow = Part(move |cx: Context| {
        let diary = slow.clone();
        async move {
            diary.note("journal starts");
            sleep(7 * SECOND).await;
            diary.note("journal is ready");
            well_behaved(cx).await
        }
    });
    let begun = Instant::now();
    let running = Supervisor::new(board.clone())
        .add(Spec::essential("journal"), slow)
        .add(Spec::essential("ipc"), noted(&diary, "ipc"))
        .start()
        .await
        .unwrap();
    assert_eq!(diary.lines(), ["journal starts", "journal is ready", "ipc starts"]);
    assert_eq!(begun.elapsed(), 7 * SECOND);
    assert_eq!(states(&board), [("journal", State::Ready), ("ipc", State::Ready)]);
    assert!(running.stop().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn the_board_shows_every_subsystem_before_any_is_started() {
    let board = HealthBoard::new();
    let _supervisor = Supervisor::new(board.clone())
        .add(Spec::essential("journal"), Part(well_behaved))
        .add(Spec::degradable("tunnel"), Part(well_behaved));
    assert_eq!(states(&board), [("journal", State::Starting), ("tunnel", State::Starting)]);
}

#[tokio::test(start_paused = true)]
async fn an_essential_subsystem_that_is_not_ready_in_time_fails_the_start_and_the_rest_is_stopped() {
    let (board, diary) = (HealthBoard::new(), Diary::default());
    let error = Supervisor::new(board.clone())
        .add(Spec::essential("journal"), noted(&diary, "journal"))
        .add(
            Spec::essential("ipc").start_timeout(4 * SECOND),
            Part(|cx: Context| async move {
                cx.stopping().cancelled().await;
                Ok(())
            }),
        )
        .add(Spec::essential("never"), noted(&diary, "never"))
        .start()
        .await
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "ipc was not ready after 4s");
    let StartError::NotReady { last: None, stop, .. } = error else { panic!("{error:?}") };
    assert!(stop.is_clean());
    assert_eq!(diary.lines(), ["journal starts", "journal stops"]);
    let stopped = State::Stopped;
    assert_eq!(states(&board), [("journal", stopped), ("ipc", stopped), ("never", stopped)]);
}

#[tokio::test(start_paused = true)]
async fn an_essential_subsystem_that_is_late_because_it_fails_says_with_what() {
    let spec = Spec::essential("ipc").start_timeout(SECOND / 100).max_tries(100);
    let error = Supervisor::new(HealthBoard::new())
        .with_seed(1)
        .add(spec, Part(|_| async { Err("address in use".into()) }))
        .start()
        .await
        .err()
        .unwrap();
    let StartError::NotReady { last: Some(Fault::Failed(last)), .. } = error else { panic!("{error:?}") };
    assert_eq!(last.to_string(), "address in use");
}

#[tokio::test(start_paused = true)]
async fn an_essential_subsystem_that_gives_up_while_starting_fails_the_start() {
    let error = Supervisor::new(HealthBoard::new())
        .add(
            Spec::essential("journal").start_timeout(600 * SECOND),
            Part(|_| async { Err("disk full".into()) }),
        )
        .start()
        .await
        .err()
        .unwrap();
    let StartError::GaveUp { gave_up, .. } = error else { panic!("{error:?}") };
    assert_eq!(gave_up.to_string(), "journal failed 5 times in a row, last: disk full");
}

#[tokio::test(start_paused = true)]
async fn an_earlier_essential_subsystem_that_gives_up_fails_the_start_of_a_later_one() {
    let ready_then_gone = Part(|cx: Context| async move {
        cx.ready();
        Err("disk full".into())
    });
    let error = Supervisor::new(HealthBoard::new())
        .add(Spec::essential("journal"), ready_then_gone)
        .add(Spec::essential("ipc").start_timeout(600 * SECOND), Part(|_| pending()))
        .start()
        .await
        .err()
        .unwrap();
    let StartError::GaveUp { gave_up, stop } = error else { panic!("{error:?}") };
    assert_eq!(gave_up.name, "journal");
    assert_eq!(stop.late, ["ipc"]);
}

#[tokio::test(start_paused = true)]
async fn a_degradable_subsystem_that_is_late_is_degraded_and_the_start_goes_on() {
    let board = HealthBoard::new();
    let begun = Instant::now();
    let running = Supervisor::new(board.clone())
        .add(
            Spec::degradable("runtime").start_timeout(10 * SECOND),
            Part(|cx: Context| async move {
                sleep(25 * SECOND).await;
                well_behaved(cx).await
            }),
        )
        .add(Spec::essential("ipc"), Part(well_behaved))
        .start()
        .await
        .unwrap();
    assert_eq!(begun.elapsed(), 10 * SECOND);
    let (reason, next_step) = until(&board, "runtime", State::Degraded).await;
    assert_eq!(reason, "not ready after 10s");
    assert!(!next_step.is_empty());
    until(&board, "runtime", State::Ready).await;
    assert_eq!(begun.elapsed(), 25 * SECOND);
    assert!(running.stop().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_degradable_subsystem_that_has_failed_does_not_hold_up_the_start() {
    let board = HealthBoard::new();
    let begun = Instant::now();
    let running = Supervisor::new(board.clone())
        .add(
            Spec::degradable("runtime").start_timeout(600 * SECOND).max_tries(1),
            Part(|_| async { Err("no such model".into()) }),
        )
        .start()
        .await
        .unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let (reason, _) = until(&board, "runtime", State::Failed).await;
    assert_eq!(reason, "no such model");
    assert!(running.stop().await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_stop_during_the_start_stops_in_order_what_had_started() {
    let (board, diary) = (HealthBoard::new(), Diary::default());
    let stop = CancellationToken::new();
    let starting = stop.clone();
    let error = Supervisor::new(board.clone())
        .add(Spec::essential("journal"), noted(&diary, "journal"))
        .add(Spec::degradable("tunnel"), noted(&diary, "tunnel"))
        .add(
            Spec::essential("ipc").grace(2 * SECOND),
            Part(move |_| {
                // The request comes while this one is starting, and it does not listen.
                starting.cancel();
                pending()
            }),
        )
        .add(Spec::essential("never"), Part(deaf))
        .start_until(stop.cancelled())
        .await
        .err()
        .unwrap();
    let StartError::Interrupted { stop } = error else { panic!("{error:?}") };
    assert_eq!(stop.late, ["ipc"]);
    assert_eq!(diary.lines(), ["journal starts", "tunnel starts", "tunnel stops", "journal stops"]);
    assert!(states(&board).iter().all(|(_, state)| *state == State::Stopped));
}
