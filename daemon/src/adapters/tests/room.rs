//! Who leaves a full disk, and what an import is told that finds no room.

use std::time::SystemTime;

use super::super::room::Room;
use super::*;
use crate::config::WhenFull;

/// `a`, `b` and `c` of three bytes each; `a` was used first and `c` last.
struct Disk {
    limit: u64,
    when_full: WhenFull,
    active: Option<&'static str>,
    busy: &'static [char],
}

impl Disk {
    fn room_for(&self, new: &Adapter) -> Result<Vec<String>, Full> {
        let snapshot = snapshot(&[("a", 'a'), ("b", 'b'), ("c", 'c')], self.active, 1);
        let room = Room {
            snapshot: &snapshot,
            limit: self.limit,
            when_full: self.when_full,
            last_used: &|id| SystemTime::UNIX_EPOCH + Duration::from_secs(id.bytes().next().unwrap().into()),
            busy: &|id| self.busy.contains(&id.chars().next().unwrap()),
        };
        room.for_new(new)
    }
}

const EVICTING: Disk = Disk { limit: 9, when_full: WhenFull::Evict, active: None, busy: &[] };

#[test]
fn nobody_leaves_while_there_is_room() {
    let refusing = Disk { limit: 12, when_full: WhenFull::Refuse, ..EVICTING };
    assert_eq!(refusing.room_for(&adapter("d", 'd')), Ok(vec![]));
}

#[test]
fn bytes_that_are_there_take_no_room_under_another_name() {
    let refusing = Disk { when_full: WhenFull::Refuse, ..EVICTING };
    assert_eq!(refusing.room_for(&adapter("copy", 'a')), Ok(vec![]));
}

#[test]
fn a_refusal_has_the_numbers_and_what_to_remove() {
    let refusing = Disk { when_full: WhenFull::Refuse, ..EVICTING };
    let large = Adapter { size_bytes: 5, ..adapter("d", 'd') };
    let full = refusing.room_for(&large).unwrap_err();
    assert_eq!(full, Full { needed: 5, used: 9, limit: 9, removable: vec![name("a"), name("b")] });
    let text = full.to_string();
    assert!(["5 bytes", "9 of the 9 bytes"].iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn the_least_recently_used_leave_and_no_more_of_them_than_needed() {
    assert_eq!(EVICTING.room_for(&adapter("d", 'd')), Ok(vec![id('a')]));
    let large = Adapter { size_bytes: 4, ..adapter("d", 'd') };
    assert_eq!(EVICTING.room_for(&large), Ok(vec![id('a'), id('b')]));
}

#[test]
fn the_active_adapter_and_those_in_use_stay() {
    let disk = Disk { active: Some("a"), busy: &['b'], ..EVICTING };
    assert_eq!(disk.room_for(&adapter("d", 'd')), Ok(vec![id('c')]));
    let large = Adapter { size_bytes: 4, ..adapter("d", 'd') };
    let full = disk.room_for(&large).unwrap_err();
    assert!(full.removable.is_empty(), "{full:?}");
}

#[test]
fn an_adapter_larger_than_the_limit_pushes_nobody_out() {
    let huge = Adapter { size_bytes: 10, ..adapter("d", 'd') };
    let full = EVICTING.room_for(&huge).unwrap_err();
    assert_eq!(full.removable, []);
}
