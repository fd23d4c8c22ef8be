//! Swaps against each other and against answers in flight.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::shape::{QUESTIONS, Shape, answer, import, ready, ready_with, shape_of, text};

const ASKERS: usize = 3;
/// Of each asker.
const ASKS: usize = 5;

#[test]
fn every_answer_given_during_swaps_has_the_shape_of_its_generation() {
    // Warm swaps are quicker than one user's usual allowance.
    let (_device, ctl) = ready_with("[ipc]\nrequests_per_minute = 1000000\n");
    import(&ctl, "json");
    import(&ctl, "pirate");
    let generations = Mutex::new(BTreeMap::from([(0_u64, Shape::Base)]));
    let finished = AtomicUsize::new(0);
    let said = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for asker in 0..ASKERS {
            let (ctl, finished, said) = (&ctl, &finished, &said);
            scope.spawn(move || {
                for turn in 0..ASKS {
                    let question = QUESTIONS[(asker + turn) % QUESTIONS.len()];
                    let answer = answer(ctl, question, &[]);
                    said.lock().unwrap().push(answer);
                }
                finished.fetch_add(1, Ordering::SeqCst);
            });
        }
        let shapes = [("json", Shape::Json), ("pirate", Shape::Pirate), ("", Shape::Base)];
        for (name, shape) in shapes.iter().cycle() {
            if finished.load(Ordering::SeqCst) == ASKERS {
                break;
            }
            let swapped = match *name {
                "" => ctl.json(&["adapter", "off"]),
                name => ctl.json(&["adapter", "swap", name]),
            };
            let generation = swapped["generation"].as_u64().unwrap();
            assert_eq!(generations.lock().unwrap().insert(generation, *shape), None, "{swapped}");
        }
    });
    let (generations, said) = (generations.into_inner().unwrap(), said.into_inner().unwrap());
    assert_eq!(said.len(), ASKERS * ASKS);
    for answer in &said {
        let generation = answer["adapter_generation"].as_u64().unwrap();
        assert_eq!(shape_of(text(answer)), generations[&generation], "{answer}");
    }
    let seen: Vec<Shape> = said.iter().map(|answer| shape_of(text(answer))).collect();
    assert!(generations.len() > 3 && seen.iter().any(|shape| *shape != seen[0]), "{seen:?}");
}

#[test]
fn of_two_swaps_that_expect_the_same_generation_exactly_one_wins() {
    let (_device, ctl) = ready();
    import(&ctl, "json");
    import(&ctl, "pirate");
    for round in 0..3_u64 {
        let expected = (round * 2).to_string();
        let swap = |name: &'static str| {
            let (ctl, expected) = (&ctl, &expected);
            move || ctl.run(&["--json", "adapter", "swap", name, "--expect-generation", expected])
        };
        let outcomes = thread::scope(|scope| {
            let both = [scope.spawn(swap("json")), scope.spawn(swap("pirate"))];
            both.map(|one| one.join().unwrap())
        });
        let won = outcomes.iter().filter(|outcome| outcome.code == 0).count();
        let lost = outcomes.iter().filter(|outcome| outcome.stderr.contains("GENERATION_CHANGED")).count();
        assert_eq!((won, lost), (1, 1), "{outcomes:?}");
        assert_eq!(ctl.json(&["adapter", "off"])["generation"], round * 2 + 2);
    }
}

#[test]
fn a_swap_back_to_an_adapter_that_was_used_finds_it_hot() {
    let (_device, ctl) = ready();
    import(&ctl, "json");
    import(&ctl, "pirate");
    let swap = |name| ctl.json(&["adapter", "swap", name]);
    assert_eq!(swap("json")["warmed"], true, "it had to be loaded");
    assert_eq!(swap("pirate")["warmed"], true);
    // A swap gives up the warming of the one before it; an answer in between gives it the time.
    let mut tries = (0..20).map(|_| {
        answer(&ctl, QUESTIONS[0], &[]);
        let back = swap("json");
        answer(&ctl, QUESTIONS[0], &[]);
        swap("pirate");
        back
    });
    let hot = tries.find(|back| back["warmed"] == false).expect("it is hot at some time");
    assert_eq!(hot["name"], "json");
}
