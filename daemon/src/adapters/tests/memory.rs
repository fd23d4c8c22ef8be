//! Leases, the active adapter, and who leaves the model's memory.

use super::super::index::Uses;
use super::super::loaded::Board;
use super::*;

fn board(state: Snapshot) -> Board {
    Board::new(state, Uses::new())
}

fn letters(last: char) -> Vec<(String, char)> {
    ('a'..=last).map(|digit| (digit.to_string(), digit)).collect()
}

fn lettered(last: char, active: Option<&str>) -> Snapshot {
    let names = letters(last);
    let names: Vec<(&str, char)> = names.iter().map(|(text, digit)| (text.as_str(), *digit)).collect();
    snapshot(&names, active, 3)
}

#[test]
fn an_adapter_in_use_or_active_is_never_evicted() {
    let state = lettered('g', Some("a"));
    let board = board(state.clone());
    let active = board.active();
    assert_eq!(
        (active.adapter.as_ref().map(|adapter| adapter.name.as_str()), active.generation),
        (Some("a"), 3)
    );
    drop(active);
    let used = board.hold(&state.adapters[1]);
    for adapter in &state.adapters[2..] {
        drop(board.hold(adapter));
    }
    assert_eq!(board.evict(4), ['c', 'd', 'e'].map(id), "the oldest that are not used");
    assert!(board.evict(4).is_empty());
    assert!(!board.release(&used.id), "an answer still runs on it");
    assert!(board.in_use(&used.id));
    drop(used);
    assert!(board.release(&id('b')));
    assert!(!board.release(&id('b')), "it is gone");
}

#[test]
fn using_an_adapter_again_makes_another_one_the_oldest() {
    let state = lettered('c', None);
    let board = board(state.clone());
    for at in [0, 1, 2, 0] {
        drop(board.hold(&state.adapters[at]));
    }
    assert_eq!(board.evict(2), [id('b')]);
    assert_eq!(board.evict(0), [id('c'), id('a')], "least recently used first");
}

#[test]
fn what_no_name_means_any_more_leaves_as_soon_as_nobody_uses_it() {
    let state = lettered('b', None);
    let board = board(state.clone());
    let used = board.hold(&state.adapters[1]);
    board.publish(lettered('a', None));
    assert!(board.evict(8).is_empty());
    assert!(!board.uses().contains_key(&id('b')), "its time of use is forgotten");
    drop(used);
    assert_eq!(board.evict(8), [id('b')]);
}

#[test]
fn the_active_adapter_of_the_last_run_is_among_the_loaded_ones_from_the_start() {
    let board = board(lettered('b', Some("b")));
    board.publish(lettered('b', None));
    assert_eq!(board.evict(0), [id('b')]);
}

#[test]
fn a_named_adapter_is_held_without_the_keeper_only_while_it_is_loaded() {
    let state = lettered('b', None);
    let board = board(state.clone());
    assert!(board.hold_loaded(&name("a"), |_| true).is_none(), "it was never loaded");
    drop(board.hold(&state.adapters[0]));
    assert!(board.hold_loaded(&name("a"), |_| false).is_none(), "the process has lost it");
    let held = board.hold_loaded(&name("a"), |_| true).unwrap();
    assert_eq!((held.name.as_str(), held.generation), ("a", 3));
    assert!(board.evict(0).is_empty());
    drop(held);
    assert_eq!(board.evict(0), [id('a')]);
    assert!(board.hold_loaded(&name("a"), |_| true).is_none(), "it was let go");
}

#[test]
fn a_request_keeps_the_adapter_and_generation_it_started_with() {
    let names = [("a", 'a'), ("b", 'b')];
    let board = board(snapshot(&names, Some("a"), 1));
    let before = board.active();
    board.publish(snapshot(&names, Some("b"), 2));
    let after = board.active();
    let of = |pinned: &Pinned| (pinned.adapter.as_ref().unwrap().name.clone(), pinned.generation);
    assert_eq!((of(&before), of(&after)), (("a".to_owned(), 1), ("b".to_owned(), 2)));
    board.publish(snapshot(&names, None, 3));
    let base = board.active();
    assert!(base.adapter.is_none());
    assert_eq!((base.generation, board.base().generation), (3, 3));
}

#[test]
fn every_use_leaves_its_time() {
    let state = lettered('b', None);
    let board = board(state.clone());
    let before = std::time::SystemTime::now();
    drop(board.hold(&state.adapters[1]));
    let uses = board.uses();
    assert_eq!(uses.len(), 1);
    assert!(uses[&id('b')] >= before);
}
