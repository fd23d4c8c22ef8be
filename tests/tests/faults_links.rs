//! Links that are cut at random while answers stream: every answer is whole, byte for byte, and charged once.
//! `SYNESIS_CUTS` sets how many (4), `SYNESIS_CUT_SECONDS` how long the longest is (2); `make cuts` takes 100 of up to 60 s.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use rand::RngExt;
use synesis_tests::seed::seeded;
use synesis_tests::streamed::World;

const WORDS: usize = 30;
/// The shortest cut, in seconds.
const SHORTEST: f64 = 0.1;

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a whole number"))
    })
}

#[test]
fn every_answer_over_a_link_that_is_cut_is_whole_and_charged_once() {
    let mut rng = seeded();
    let (cuts, longest) = (number("SYNESIS_CUTS", 4), f64::from(number("SYNESIS_CUT_SECONDS", 2)));
    let world = World::start(rng.random(), "");
    let mut requests = BTreeSet::new();
    for cut in 1..=cuts {
        let mut answer = world.ask(WORDS);
        let heard = rng.random_range(0..WORDS - 2);
        answer.say(heard);
        if rng.random_bool(0.5) {
            // At rest, or in the middle of what is on its way.
            answer.read_words(1 + heard);
        }
        let length = Duration::from_secs_f64(SHORTEST * (longest / SHORTEST).powf(rng.random::<f64>()));
        eprintln!("cut {cut} of {cuts}: after {heard} words, for {length:?}");
        world.relay.cut();
        answer.say(rng.random_range(0..WORDS));
        // The length of a cut is what is tested.
        std::thread::park_timeout(length);
        if cut % 2 == 0 {
            // However short it was, the way that the connection took is gone.
            world.relay.forget();
        }
        world.relay.heal();
        let done = answer.finish();
        assert!(requests.insert(done["request_id"].as_str().expect("an id").to_owned()));
        assert_ne!(done["receipt"], "pending", "{done}");
    }
    let charged: BTreeSet<String> = world
        .receipts()
        .iter()
        .map(|receipt| receipt["request_id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(charged, requests, "one charge for each");
    assert_eq!(world.provider.bodies().len(), cuts as usize, "the provider was asked once for each");
    let resumed = world.device.log().matches("the answer is whole").count();
    eprintln!("{cuts} whole answers, {resumed} of them resumed on another connection");
}
