//! The choice of a sequence as a table, and the cache's bounds.

use super::*;

fn base() -> Variant {
    Variant::default()
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count).map(|token| u32::try_from(token).unwrap()).collect()
}

struct Known {
    variant: Variant,
    tokens: Vec<u32>,
    occupancy: Occupancy,
}

fn known(tokens: Vec<u32>, occupancy: Occupancy) -> Known {
    Known { variant: base(), tokens, occupancy }
}

fn planned(prompt: &[u32], sequences: &[Known], saved: &PrefixCache<u32, ()>) -> Option<Plan> {
    let candidates: Vec<_> = sequences
        .iter()
        .map(|known| Candidate { variant: &known.variant, tokens: &known.tokens, occupancy: known.occupancy })
        .collect();
    plan(&base(), prompt, &candidates, saved)
}

fn none() -> PrefixCache<u32, ()> {
    PrefixCache::new(0)
}

#[test]
fn the_idle_sequence_with_the_longest_common_beginning_is_taken() {
    let sequences = [
        known(tokens(10), Occupancy::Idle(1)),
        known(tokens(30), Occupancy::Idle(2)),
        known(vec![], Occupancy::Idle(3)),
    ];
    let plan = planned(&tokens(40), &sequences, &none()).unwrap();
    assert_eq!(plan, Plan { sequence: 1, source: Source::Own(30) });
}

#[test]
fn without_a_match_an_empty_sequence_is_taken_before_the_longest_unused() {
    let other = || vec![99, 98];
    let mut sequences = vec![known(other(), Occupancy::Idle(1)), known(vec![], Occupancy::Idle(7))];
    let empty = planned(&tokens(40), &sequences, &none()).unwrap();
    assert_eq!(empty, Plan { sequence: 1, source: Source::Nothing });
    sequences[1] = known(other(), Occupancy::Idle(7));
    assert_eq!(planned(&tokens(40), &sequences, &none()).unwrap().sequence, 0);
}

#[test]
fn a_busy_sequence_lends_a_long_beginning_and_is_not_taken() {
    let sequences = [known(tokens(200), Occupancy::Busy), known(vec![], Occupancy::Idle(0))];
    let plan = planned(&tokens(100), &sequences, &none()).unwrap();
    assert_eq!(plan, Plan { sequence: 1, source: Source::Sequence(0, 100) });
    let short = planned(&tokens(20), &sequences, &none()).unwrap();
    assert_eq!(short.source, Source::Nothing, "copying 20 tokens costs more than computing them");
}

#[test]
fn a_long_conversation_is_not_cut_for_a_short_common_beginning() {
    let mut prompt = tokens(100);
    prompt.extend([7777; 20]);
    let sequences = [known(tokens(1000), Occupancy::Idle(1)), known(vec![5; 900], Occupancy::Idle(2))];
    let plan = planned(&prompt, &sequences, &none()).unwrap();
    // The least recently used one is the conversation itself, so the other would be no better; with an empty
    // one the beginning is copied.
    assert_eq!(plan, Plan { sequence: 0, source: Source::Own(100) });
    let sequences = [known(tokens(1000), Occupancy::Idle(1)), known(vec![], Occupancy::Idle(2))];
    let plan = planned(&prompt, &sequences, &none()).unwrap();
    assert_eq!(plan, Plan { sequence: 1, source: Source::Sequence(0, 100) });
}

#[test]
fn another_variant_has_no_common_beginning() {
    let adapted =
        Known { variant: Variant::adapted("a", 1.0), tokens: tokens(50), occupancy: Occupancy::Idle(0) };
    let plan = planned(&tokens(50), &[adapted], &none()).unwrap();
    assert_eq!(plan, Plan { sequence: 0, source: Source::Nothing });
}

#[test]
fn when_all_are_busy_there_is_no_plan() {
    assert_eq!(planned(&tokens(5), &[known(vec![], Occupancy::Busy)], &none()), None);
}

#[test]
fn a_saved_beginning_is_used_when_it_is_longer() {
    let mut saved = PrefixCache::new(100);
    saved.insert(base(), tokens(80), (), 10);
    let sequences = [known(tokens(10), Occupancy::Idle(0))];
    let plan = planned(&tokens(90), &sequences, &saved).unwrap();
    assert_eq!(plan, Plan { sequence: 0, source: Source::Saved(0, 80) });
}

#[test]
fn the_cache_never_holds_more_than_it_may() {
    let mut saved = PrefixCache::new(100);
    saved.insert(base(), vec![1], 'a', 40);
    saved.insert(base(), vec![2], 'b', 40);
    assert_eq!(saved.state(0), Some(&'a'), "used again");
    saved.insert(base(), vec![3], 'c', 40);
    assert!(saved.covers(&base(), &[1]) && saved.covers(&base(), &[3]));
    assert!(!saved.covers(&base(), &[2]), "the longest unused went");
    saved.insert(base(), vec![4], 'd', 101);
    assert!(!saved.covers(&base(), &[4]), "larger than all of it");
}

#[test]
fn a_longer_beginning_replaces_its_own_beginnings() {
    let mut saved = PrefixCache::new(100);
    saved.insert(base(), tokens(5), (), 40);
    saved.insert(Variant::adapted("a", 1.0), tokens(5), (), 40);
    saved.insert(base(), tokens(9), (), 50);
    assert!(saved.covers(&base(), &tokens(9)) && saved.covers(&base(), &tokens(5)));
    assert!(saved.covers(&Variant::adapted("a", 1.0), &tokens(5)), "there was room for both");
}

#[test]
fn an_unloaded_adapter_leaves_nothing_behind() {
    let mut saved = PrefixCache::new(100);
    saved.insert(Variant::adapted("a", 0.5), tokens(5), (), 10);
    saved.insert(base(), tokens(5), (), 10);
    saved.forget_adapter("a");
    assert!(!saved.covers(&Variant::adapted("a", 0.5), &tokens(5)));
    assert!(saved.covers(&base(), &tokens(5)));
}
