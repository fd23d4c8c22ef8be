//! What paths do to a tunnel: NATs that forget, loss, outages, other networks, gateways that restart. All in virtual time
//! on the simulated network; where chance decides, the seed is printed.

use std::net::Ipv4Addr;
use std::time::Duration;

use rand::RngExt;
use synesis_proto::mesh::v1;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::network_change::Change;
use super::sim::world::{SECOND, World, panics};
use super::sim::{Conditions, DELAY, SimNet};
use super::*;

const RTT: Duration = Duration::from_millis(40);
const MILLI: Duration = Duration::from_millis(1);
const HEARTBEAT: Duration = Duration::from_secs(30);
/// UDP over IPv4 in the smallest packets that every IPv6 path carries.
const SMALL_PATH: usize = 1252;

fn world(seed: u64, conditions: Conditions) -> World {
    println!("seed {seed}");
    World::over(SimNet::new(seed, conditions), seed, HEARTBEAT, v1::Welcome::default())
}

/// Waits until the gateway answers, if need be on another connection.
async fn answered(world: &World) {
    world.reach(TunnelState::Up).await;
    while world.handle.ping().await.is_err() {
        // The status follows in a moment.
        yield_now().await;
        world.reach(TunnelState::Up).await;
    }
}

fn announcing(window: Duration) -> v1::Welcome {
    let reconnect_window_ms = window.as_millis().try_into().unwrap();
    v1::Welcome { reconnect_window_ms, ..v1::Welcome::default() }
}

#[tokio::test(start_paused = true)]
async fn a_nat_that_forgets_every_five_seconds_costs_no_reconnect_and_no_word() {
    let world = World::new(HEARTBEAT);
    let since = world.reach(TunnelState::Up).await.connected_since;
    let mut answer = world.endless_answer().await;
    for _ in 0..12 {
        assert!(answer.read_for(5 * SECOND).await, "the stream lives");
        world.net.forget_mappings();
    }
    assert!(answer.read_for(10 * SECOND).await);
    assert!(answer.read > 1_300, "twenty words a second for seventy seconds: {}", answer.read);
    assert_eq!(world.handle.status().borrow().connected_since, since);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_same_under_ten_percent_loss_over_two_hundred_seeds_always_ends_up() {
    let before = panics();
    let mut reconnects = 0;
    for seed in 0..200 {
        let world = world(seed, Conditions { loss: 0.1, ..Conditions::default() });
        world.reach(TunnelState::Up).await;
        let mut answer = world.endless_answer().await;
        for _ in 0..12 {
            if !answer.read_for(5 * SECOND).await {
                reconnects += 1;
                answered(&world).await;
                answer = world.endless_answer().await;
            }
            world.net.forget_mappings();
        }
        world.net.set(Conditions::default());
        answered(&world).await;
        let rtt = world.handle.ping().await.unwrap();
        assert!(rtt < RTT + 10 * MILLI, "heartbeats are as good as new: {rtt:?}");
        assert_eq!(panics(), before, "nothing panicked");
        world.end().await;
    }
    println!("{reconnects} reconnects");
}

#[tokio::test(start_paused = true)]
async fn after_any_outage_the_tunnel_is_back_two_round_trips_after_the_wait_that_was_drawn() {
    let world = world(4, Conditions::default());
    world.reach(TunnelState::Up).await;
    for _ in 0..100 {
        let (outage, calm) =
            world.net.random(|rng| (rng.random_range(0.1..60.0), rng.random_range(0.0..90.0)));
        let answer = world.endless_answer().await;
        sleep(Duration::from_secs_f64(calm)).await;
        world.net.cut(true);
        sleep(Duration::from_secs_f64(outage)).await;
        world.net.cut(false);
        back_in_time(&world).await;
        drop(answer);
    }
    world.end().await;
}

/// Waits until the gateway answers again. A tunnel that did not know of the outage yet, or was dialling into it, has five
/// seconds to find out; from then on there is the wait that was drawn, and two round trips.
async fn back_in_time(world: &World) {
    let healed = Instant::now();
    let mut latest = healed + 5 * SECOND + 2 * RTT + MILLI;
    let mut status = world.handle.status();
    loop {
        let now = status.borrow_and_update().clone();
        match now.state {
            TunnelState::Backoff => {
                assert!(healed.elapsed() <= 5 * SECOND, "{:?}: {now:?}", healed.elapsed());
                latest = now.retry_at.unwrap() + 2 * RTT + MILLI;
            }
            TunnelState::Up => {
                if let Ok(rtt) = world.handle.ping().await {
                    assert!(Instant::now() <= latest + rtt, "{:?} late", Instant::now() - latest);
                    return;
                }
                // The status follows in a moment.
                yield_now().await;
                continue;
            }
            _ => {}
        }
        status.changed().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lossy_slow_path_that_reorders_stays_up() {
    let conditions =
        Conditions { loss: 0.05, delay: 100 * MILLI, reorder: 0.1, duplicate: 0.01, ..Conditions::default() };
    for seed in 0..5 {
        let world = world(seed, conditions);
        let since = world.reach(TunnelState::Up).await.connected_since;
        let mut answer = world.endless_answer().await;
        assert!(answer.read_for(300 * SECOND).await, "the stream lives");
        assert!(answer.read > 5_500, "{}", answer.read);
        assert_eq!(world.handle.status().borrow().connected_since, since);
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn when_only_the_socket_is_dead_another_one_carries_the_stream_on() {
    let world = World::new(HEARTBEAT);
    let since = world.reach(TunnelState::Up).await.connected_since;
    let mut answer = world.endless_answer().await;
    assert!(answer.read_for(5 * SECOND).await);
    world.net.strand_sockets();
    let mut status = world.handle.status();
    let doubted = status.wait_for(|s| s.rebinds == 1).await.unwrap().clone();
    assert_eq!(doubted.state, TunnelState::Up);
    assert_eq!(
        doubted.reason.as_deref(),
        Some("the gateway does not answer; the path was bound anew (once) and is being probed")
    );
    assert!(answer.read_for(20 * SECOND).await, "the stream lives");
    assert!(answer.read > 450, "{}", answer.read);
    let after = world.handle.status().borrow().clone();
    assert_eq!((after.connected_since, after.reason, after.rebinds), (since, None, 1));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_path_that_dies_under_work_is_replaced_within_ten_seconds_whenever_it_dies() {
    for seed in 0..50 {
        let world = world(seed, Conditions::default());
        world.reach(TunnelState::Up).await;
        let _answer = world.endless_answer().await;
        let moment: f64 = world.net.random(|rng| rng.random_range(2.0..5.0));
        sleep(Duration::from_secs_f64(moment)).await;
        let cut = Instant::now();
        world.net.cut(true);
        world.leave_up().await;
        world.net.cut(false);
        world.reach(TunnelState::Up).await;
        // Where UDP is dead for good, TCP is tried a second and a half into the dial.
        assert!(cut.elapsed() <= 10 * SECOND - 3 * SECOND / 2, "{:?}", cut.elapsed());
        world.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn on_another_network_an_idle_tunnel_goes_on_from_there_at_once() {
    let world = World::new(HEARTBEAT);
    let since = world.reach(TunnelState::Up).await.connected_since;
    world.handle.ping().await.unwrap();
    let moved = Instant::now();
    world.net.move_device_to(Ipv4Addr::new(10, 0, 7, 7));
    let mut status = world.handle.status();
    status.wait_for(|s| s.rebinds == 1).await.unwrap();
    let after = status.wait_for(|s| s.reason.is_none()).await.unwrap().clone();
    assert!(moved.elapsed() < SECOND, "{:?}", moved.elapsed());
    assert_eq!((after.state, after.connected_since), (TunnelState::Up, since));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn on_another_network_a_waiting_tunnel_dials_at_once() {
    let world = World::new(2 * SECOND);
    world.reach(TunnelState::Up).await;
    world.net.cut(true);
    let mut status = world.handle.status();
    let long = |s: &TunnelStatus| s.retry_at.is_some_and(|at| at - Instant::now() > 10 * SECOND);
    status.wait_for(long).await.unwrap();
    world.net.cut(false);
    let moved = Instant::now();
    world.net.move_device_to(Ipv4Addr::new(10, 0, 7, 7));
    world.reach(TunnelState::Up).await;
    assert!(moved.elapsed() < SECOND, "{:?}", moved.elapsed());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn reports_that_change_nothing_for_the_tunnel_leave_it_alone_but_another_default_route_does_not() {
    let world = World::new(HEARTBEAT);
    world.reach(TunnelState::Up).await;
    for _ in 0..20 {
        world.net.announce(Change::Other);
        sleep(SECOND).await;
    }
    assert_eq!((world.handle.status().borrow().rebinds, world.net.device_sockets()), (0, 1));
    world.net.announce(Change::DefaultRoute);
    sleep(SECOND).await;
    assert_eq!((world.handle.status().borrow().rebinds, world.net.device_sockets()), (1, 2));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_reports_is_one_change_and_an_endless_one_is_not_waited_for() {
    let world = World::new(HEARTBEAT);
    world.reach(TunnelState::Up).await;
    for _ in 0..15 {
        world.net.announce(Change::DefaultRoute);
        sleep(100 * MILLI).await;
    }
    assert_eq!(world.handle.status().borrow().rebinds, 0, "it has not been quiet yet");
    sleep(SECOND).await;
    assert_eq!(world.handle.status().borrow().rebinds, 1);
    for _ in 0..50 {
        world.net.announce(Change::DefaultRoute);
        sleep(100 * MILLI).await;
    }
    assert_eq!(world.handle.status().borrow().rebinds, 3, "every two seconds");
    world.end().await;
}

/// How long the device waits before it dials a gateway again that was lost in this way.
async fn first_wait(world: &World) -> Duration {
    let lost = world.reach(TunnelState::Backoff).await;
    lost.retry_at.unwrap() - Instant::now()
}

#[tokio::test(start_paused = true)]
async fn devices_of_a_gateway_that_restarts_come_back_spread_over_the_window_it_announced() {
    let mut waits = Vec::new();
    for seed in 0..40 {
        let mut world = World::over(SimNet::default(), seed, HEARTBEAT, announcing(20 * SECOND));
        world.reach(TunnelState::Up).await;
        world.restart_gateway();
        // The first packet after the restart is answered by a stateless reset.
        world.handle.ping().await.unwrap_err();
        waits.push(first_wait(&world).await);
        assert_eq!(world.handle.status().borrow().reason.as_deref(), Some("the gateway restarted"));
        world.reach(TunnelState::Up).await;
        world.end().await;
    }
    assert!(waits.iter().all(|wait| *wait <= 20 * SECOND), "{waits:?}");
    let in_quarter = |n: u32| {
        waits.iter().filter(|wait| **wait / 5 >= n * SECOND && **wait / 5 < (n + 1) * SECOND).count()
    };
    for quarter in 0..4 {
        assert!(in_quarter(quarter) >= 3, "{waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_gateway_is_dialled_soon_by_who_works_and_in_turn_by_who_is_idle() {
    let mut longest_idle = Duration::ZERO;
    for seed in 0..10 {
        let world = World::over(SimNet::default(), seed, HEARTBEAT, announcing(20 * SECOND));
        world.reach(TunnelState::Up).await;
        world.net.cut(true);
        longest_idle = longest_idle.max(first_wait(&world).await);
        world.net.cut(false);
        world.reach(TunnelState::Up).await;
        sleep(61 * SECOND).await;
        let answer = world.endless_answer().await;
        world.net.cut(true);
        let wait = first_wait(&world).await;
        assert!(wait <= SECOND, "{wait:?}");
        drop(answer);
        world.end().await;
    }
    assert!(longest_idle > 5 * SECOND, "{longest_idle:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_window_a_restarted_gateway_is_dialled_within_a_second() {
    let mut world = World::new(HEARTBEAT);
    world.reach(TunnelState::Up).await;
    world.restart_gateway();
    world.handle.ping().await.unwrap_err();
    assert!(first_wait(&world).await <= SECOND);
    world.reach(TunnelState::Up).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_path_that_swallows_big_packets_carries_everything() {
    let world = world(1, Conditions { mtu: SMALL_PATH, ..Conditions::default() });
    world.reach(TunnelState::Up).await;
    let rtt = world.handle.ping().await.unwrap();
    assert!(rtt < RTT + 10 * MILLI, "{rtt:?}");
    let mut answer = world.endless_answer().await;
    answer.ask_at_length(200_000).await;
    assert!(answer.read_for(10 * SECOND).await);
    assert!(answer.read > 190, "{}", answer.read);
    world.net.strand_sockets();
    assert!(answer.read_for(10 * SECOND).await, "over another socket too");
    assert!(world.net.largest() <= SMALL_PATH, "{}", world.net.largest());
    assert_eq!(DELAY * 2, RTT);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_bug_inside_quic_costs_the_connection_and_nothing_else() {
    let before = panics();
    let world = World::new(HEARTBEAT);
    let first = world.reach(TunnelState::Up).await.connected_since;
    let mut answer = world.endless_answer().await;
    assert!(answer.read_for(SECOND).await);
    world.net.panic_on_send();
    // Where it happens nothing wakes who waits for the stream; the next heartbeat notices.
    world.leave_up().await;
    assert!(panics() > before, "it did happen");
    assert!(!answer.read_for(SECOND).await, "the stream is lost, and says so");
    drop(answer);
    let again = world.reach(TunnelState::Up).await;
    assert_ne!(again.connected_since, first);
    assert!(world.endless_answer().await.read_for(5 * SECOND).await, "the next connection is as good as new");
    world.end().await;
}
