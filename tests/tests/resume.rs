//! Cloud answers over a link that is cut: one uninterrupted stream for the user, one charge, whatever happens between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use rand::RngExt;
use serde_json::Value;
use synesis_tests::relay::Way;
use synesis_tests::seed::seeded;
use synesis_tests::streamed::World;

/// The end of a whole answer, and the one charge for it.
#[track_caller]
fn charged_once(world: &World, done: &Value) {
    assert_eq!((&done["origin"], &done["receipt"]["seq"]), (&"cloud".into(), &1.into()), "{done}");
    let receipts = world.receipts();
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert_eq!(receipts[0]["request_id"], done["request_id"]);
    let balance = world.device.ctl().json(&["billing", "balance"]);
    assert_eq!(balance["unbilled_nanousd"], receipts[0]["net_nanousd"]);
    assert_eq!(balance["held_nanousd"], 0);
    assert_eq!(world.provider.bodies().len(), 1, "the provider was asked once");
}

#[test]
fn an_answer_goes_on_after_each_of_several_cuts() {
    let world = World::start(1, "");
    let mut answer = world.ask(24);
    for round in 1..=3 {
        answer.say(3);
        answer.read_words(1 + 3 * round + 3 * (round - 1));
        world.relay.cut();
        // The provider goes on, and nobody hears it.
        answer.say(3);
        world.relay.heal();
        world.reconnect();
    }
    let done = answer.finish();
    charged_once(&world, &done);
    let log = world.device.log();
    assert!(log.contains("the answer is whole") && log.contains("resumed=3"), "{log}");
}

#[test]
fn a_cut_at_any_byte_costs_nothing() {
    let mut rng = seeded();
    let world = World::start(2, "");
    let mut answer = world.ask(40);
    for _ in 0..6 {
        world.relay.cut_after(Way::Down, rng.random_range(1..1_500));
        while answer.left() > 0 && !world.relay.is_cut() {
            let before = world.relay.counts();
            answer.say(1);
            // A word makes a packet, or the cut swallows it.
            assert!(
                world.relay.wait_for(|counts| counts.down > before.down || counts.dropped > before.dropped)
            );
        }
        world.relay.heal();
        world.reconnect();
    }
    let done = answer.finish();
    charged_once(&world, &done);
}

#[test]
fn a_connection_that_dies_without_a_word_is_replaced_and_the_answer_goes_on() {
    let world = World::start(3, "");
    let mut answer = world.ask(8);
    answer.say(2);
    answer.read_words(3);
    // Nobody tells the device, and nobody helps it.
    world.relay.forget();
    let done = answer.finish();
    charged_once(&world, &done);
}

#[test]
fn a_finished_answer_is_read_on_from_a_restarted_gateway() {
    let mut world = World::start(4, "");
    let done = {
        let mut answer = world.ask(10);
        world.relay.cut();
        answer.say(usize::MAX);
        world.gateway_logs("ask settled");
        answer.detach()
    };
    world.gateway.restart_in_order();
    world.relay.heal();
    world.reconnect();
    let done = done.attach(&world).finish();
    charged_once(&world, &done);
}

#[test]
fn a_running_answer_dies_with_a_killed_gateway_and_costs_nothing() {
    let mut world = World::start(5, "");
    let running = {
        let answer = world.ask(10);
        world.relay.cut();
        answer.detach()
    };
    world.gateway.kill();
    world.gateway.restart();
    world.relay.heal();
    world.reconnect();
    let outcome = running.attach(&world).fails().expect_code(6);
    assert!(outcome.stderr.contains("INTERRUPTED"), "{}", outcome.stderr);
    assert!(world.receipts().is_empty());
    let balance = world.device.ctl().json(&["billing", "balance"]);
    assert_eq!((&balance["unbilled_nanousd"], &balance["held_nanousd"]), (&0.into(), &0.into()));
}

#[test]
fn a_user_who_leaves_while_the_link_is_cut_stops_the_provider_when_it_heals() {
    // It cannot be the grace that ends it.
    let world = World::start(6, "[resume]\ngrace = \"10m\"\n");
    let answer = world.ask(10);
    world.relay.cut();
    drop(answer);
    world.relay.heal();
    world.reconnect();
    assert!(world.provider.wait_until_hung_up(), "the provider was never told");
    let receipts = world.receipts();
    assert_eq!(receipts.len(), 1, "{receipts:?}");
    assert!(receipts[0]["output_tokens"].as_u64() < Some(10), "only what was made: {receipts:?}");
}
