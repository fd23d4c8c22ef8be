//! The tunnel against a real gateway session, over a simulated network and under virtual time.

use std::time::Duration;

use synesis_proto::mesh::v1;
use tokio::time::Instant;
use ulid::Ulid;

use super::sim::DELAY;
use super::sim::world::{GATEWAY, SECOND, World, dial_at};
use super::*;
use crate::carrier::{Connection, ConnectionLost};
use crate::frame::FrameError;
use crate::gateway::HandshakeError;
use crate::kind::{ErrorCode, MAX_WORK_STREAMS, StreamKind};
use crate::stream::{RawStream, StreamHeader};

#[tokio::test(start_paused = true)]
async fn the_round_trip_is_the_networks_own() {
    let world = World::new(SECOND);
    world.reach(TunnelState::Up).await;
    let mut status = world.handle.status();
    let rtt = status.wait_for(|s| s.rtt.is_some()).await.unwrap().rtt.unwrap();
    assert!(rtt >= 2 * DELAY && rtt < 3 * DELAY, "{rtt:?}");
    let ping = world.handle.ping().await.unwrap();
    assert!(ping >= 2 * DELAY && ping < 3 * DELAY, "{ping:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_state_leaves_up_seven_seconds_after_a_heartbeat_at_the_latest() {
    let world = World::new(2 * SECOND);
    world.reach(TunnelState::Up).await;
    world.handle.ping().await.unwrap();
    let last_ack = Instant::now();
    world.net.cut(true);
    let after = world.leave_up().await - last_ack;
    assert!(after > 6 * SECOND && after <= 7 * SECOND, "a heartbeat, three seconds, two more: {after:?}");
    let status = world.handle.status().borrow().clone();
    assert_eq!(status.reason.as_deref(), Some("the gateway stopped answering"));
    assert_eq!((status.rtt, status.connected_since, status.rebinds), (None, None, 0));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_path_under_an_idle_tunnel_is_given_up_five_seconds_after_the_next_heartbeat() {
    let world = World::new(30 * SECOND);
    world.reach(TunnelState::Up).await;
    world.handle.ping().await.unwrap();
    let cut = Instant::now();
    world.net.cut(true);
    let after = world.leave_up().await - cut;
    assert!(after > 34 * SECOND && after <= 35 * SECOND, "{after:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_no_reconnect() {
    let world = World::new(2 * SECOND);
    let since = world.reach(TunnelState::Up).await.connected_since;
    world.handle.ping().await.unwrap();
    world.net.cut(true);
    tokio::time::sleep(4 * SECOND).await;
    world.net.cut(false);
    tokio::time::sleep(60 * SECOND).await;
    let status = world.handle.status().borrow().clone();
    assert_eq!((status.state, status.connected_since), (TunnelState::Up, since));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_tunnel_comes_back_by_itself_after_a_day_without_a_network() {
    let world = World::new(10 * SECOND);
    world.reach(TunnelState::Up).await;
    world.net.cut(true);
    world.reach(TunnelState::Backoff).await;
    tokio::time::sleep(24 * 60 * 60 * SECOND).await;
    world.net.cut(false);
    let healed = Instant::now();
    world.reach(TunnelState::Up).await;
    assert!(healed.elapsed() <= 66 * SECOND, "cap plus one dial: {:?}", healed.elapsed());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn reconnect_does_not_wait_for_the_backoff() {
    let world = World::new(2 * SECOND);
    world.reach(TunnelState::Up).await;
    world.net.cut(true);
    let mut status = world.handle.status();
    let long = |s: &TunnelStatus| s.retry_at.is_some_and(|at| at - Instant::now() > 10 * SECOND);
    status.wait_for(long).await.unwrap();
    world.net.cut(false);
    let asked = Instant::now();
    world.handle.reconnect();
    world.reach(TunnelState::Up).await;
    assert!(asked.elapsed() < SECOND, "{:?}", asked.elapsed());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_tunnel_stays_up_for_hours() {
    let world = World::new(30 * SECOND);
    let since = world.reach(TunnelState::Up).await.connected_since;
    tokio::time::sleep(60 * 60 * SECOND).await;
    let status = world.handle.status().borrow().clone();
    assert_eq!((status.state, status.connected_since), (TunnelState::Up, since));
    world.end().await;
}

/// The code the gateway closed the connection with, and when.
async fn closed(connection: &Connection) -> (Option<ErrorCode>, Duration) {
    let start = Instant::now();
    match connection.closed().await {
        ConnectionLost::Closed { code, .. } => (ErrorCode::from_number(code), start.elapsed()),
        other => panic!("{other}"),
    }
}

fn control(message: v1::control_up::Message) -> v1::ControlUp {
    v1::ControlUp { message: Some(message) }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_says_nothing_is_closed_after_ten_seconds() {
    let world = World::new(SECOND);
    let silent = world.raw().await;
    let (code, after) = closed(&silent.connection).await;
    assert_eq!(code, Some(ErrorCode::DeadlineExceeded));
    assert!(after >= 10 * SECOND && after < 11 * SECOND, "{after:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_device_whose_heartbeats_stop_is_closed_although_its_path_is_alive() {
    let world = World::new(SECOND);
    let raw = world.raw().await;
    let stream = raw.connection.open().await.unwrap();
    let (mut tx, _rx) = RawStream::new(stream, None).with_kind(StreamKind::Control);
    let hello = v1::Hello { versions: vec![1], ..v1::Hello::default() };
    tx.write(&control(v1::control_up::Message::Hello(hello))).await.unwrap();
    let (code, after) = closed(&raw.connection).await;
    assert_eq!(code, Some(ErrorCode::DeadlineExceeded));
    assert!(after >= 100 * SECOND && after < 101 * SECOND, "three intervals of 30 s and 10 s: {after:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hello_without_a_common_version_is_refused_with_that_code() {
    let world = World::new(SECOND);
    let raw = world.raw().await;
    let stream = raw.connection.open().await.unwrap();
    let (mut tx, _rx) = RawStream::new(stream, None).with_kind(StreamKind::Control);
    let hello = v1::Hello { versions: vec![2, 3], ..v1::Hello::default() };
    tx.write(&control(v1::control_up::Message::Hello(hello))).await.unwrap();
    assert_eq!(closed(&raw.connection).await.0, Some(ErrorCode::VersionUnsupported));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_header_does_not_come_is_refused_and_delays_no_other() {
    let world = World::new(SECOND);
    world.reach(TunnelState::Up).await;
    let link = world.handle.shared.link.borrow().clone().unwrap();
    let mut slow = RawStream::new(link.connection.open().await.unwrap(), None);
    // One byte, so that the gateway learns of the stream.
    tokio::io::AsyncWriteExt::write_all(slow.tx.io_mut(), &[0]).await.unwrap();
    let start = Instant::now();
    let other = world.handle.open(StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, 2))).await.unwrap();
    match slow.rx.read::<v1::AskDown>().await {
        Err(FrameError::Refused(problem)) => assert_eq!(problem.code, ErrorCode::DeadlineExceeded.number()),
        other => panic!("{other:?}"),
    }
    assert!(start.elapsed() < 6 * SECOND, "{:?}", start.elapsed());
    assert_eq!(world.handle.status().borrow().state, TunnelState::Up);
    drop(other);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_too_many_is_refused_after_a_short_wait() {
    let world = World::new(SECOND);
    world.reach(TunnelState::Up).await;
    let header = |n| StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, n));
    let mut open = Vec::new();
    for n in 0..MAX_WORK_STREAMS {
        open.push(world.handle.open(header(n.into())).await.unwrap());
    }
    let start = Instant::now();
    assert!(matches!(world.handle.open(header(99)).await, Err(OpenError::Busy)));
    assert!(start.elapsed() <= 5 * SECOND);
    assert_eq!(world.handle.status().borrow().state, TunnelState::Up, "heartbeats go on");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_whose_run_is_dropped_claims_no_connection() {
    let mut world = World::new(SECOND);
    world.reach(TunnelState::Up).await;
    let mut events = world.handle.events();
    world.tasks.abort_all();
    world.reach(TunnelState::Offline).await;
    assert_eq!(events.recv().await, Ok(TunnelEvent::Down));
    let header = StreamHeader::new(StreamKind::Ask, Ulid::from_parts(1, 1));
    assert!(matches!(world.handle.open(header).await, Err(OpenError::Offline(_))));
    assert!(matches!(world.handle.ping().await, Err(PingError::Offline(_))));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_stalls_is_given_up_after_ten_seconds() {
    let mut world = World::new(SECOND);
    world.reach(TunnelState::Up).await;
    let dialling = async { dial_at(GATEWAY, &world.identity, 60 * SECOND, &world.net).await };
    let silence = async {
        // The device's first packet has arrived, and no other will.
        tokio::time::sleep(DELAY + DELAY / 2).await;
        world.net.cut(true);
        let start = Instant::now();
        let error = world.refused.recv().await.unwrap();
        (error, start.elapsed())
    };
    // The device may think it is through; the gateway never sees its certificate.
    let (_dialled, (error, after)) = tokio::join!(dialling, silence);
    assert!(matches!(error, HandshakeError::TimedOut), "{error}");
    assert!(after > 9 * SECOND && after <= 10 * SECOND, "{after:?}");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_is_looked_up_again_for_each_dial() {
    let world = World::new(SECOND);
    let name = "gateway.example:4433";
    world.net.name(name, ([10, 0, 0, 9], 4433).into());
    let failure = dial_at(name, &world.identity, SECOND, &world.net).await.unwrap_err();
    assert!(failure.reason.contains("no answer from 10.0.0.9:4433"), "{failure}");
    world.net.name(name, GATEWAY.parse().unwrap());
    let dialled = dial_at(name, &world.identity, SECOND, &world.net).await.unwrap();
    assert_eq!(dialled.connection.remote(), GATEWAY.parse().unwrap());
    world.end().await;
}
