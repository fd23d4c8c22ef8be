//! Payment cards and social security numbers.

use super::cluster::{Cluster, MAX_DIGITS, all_gaps, digits, lengths, stands_alone};
use crate::check::{card, ssn};
use crate::detect::cues::Cue;
use crate::detect::finding::{Evidence, Finding};
use crate::detect::view::View;
use crate::kind::Kind;

/// How far before a number its context may stand, in bytes.
const REACH: usize = 40;
const COUNTER_REACH: usize = 24;

/// The card number that starts with group `first`, and the group after it.
pub(super) fn card(view: &View<'_>, cluster: &Cluster, first: usize) -> Option<(Finding, usize)> {
    let groups = cluster.from(first);
    let start = groups.first()?.0;
    for count in (1..=groups.len()).rev() {
        let groups = &groups[..count];
        let mut buffer = [0; MAX_DIGITS];
        let Some(number) = digits(view, groups, &mut buffer) else { continue };
        let end = groups[count - 1].1;
        let grouped = count > 1;
        let printed = !grouped
            || (groups[0].1 - start == 4 && (all_gaps(view, groups, " ") || all_gaps(view, groups, "-")));
        if printed
            && stands_alone(view, start, end)
            && card::is_card(number)
            && is_likely(view, start, grouped, number.len())
        {
            let finding = Finding {
                start,
                end,
                kind: Kind::CreditCard,
                rule: "card-luhn",
                evidence: Evidence::Checksum,
            };
            return Some((finding, first + count));
        }
    }
    None
}

/// One number in ten passes Luhn: an order, a book or a large integer needs more than that to be a card.
fn is_likely(view: &View<'_>, start: usize, grouped: bool, len: usize) -> bool {
    let spoken = view.is_near(start, REACH, Cue::Card);
    let counted = view.speaks_against(start, COUNTER_REACH, Cue::Counter, &[Cue::Card]);
    if grouped || spoken { spoken || len >= 14 } else { (14..=16).contains(&len) && !counted }
}

/// The social security number that starts with group `first`, and the group after it.
pub(super) fn ssn(view: &View<'_>, cluster: &Cluster, first: usize) -> Option<(Finding, usize)> {
    let groups = cluster.from(first);
    let start = groups.first()?.0;
    let [a, b, c, ..] = lengths(groups);
    let count = match (a, b, c) {
        (9, ..) => 1,
        (3, 2, 4) => 3,
        _ => return None,
    };
    let groups = &groups[..count];
    let dashed = count == 3 && all_gaps(view, groups, "-");
    let spoken = view.is_near(start, REACH, Cue::Ssn);
    let end = groups[count - 1].1;
    let mut buffer = [0; MAX_DIGITS];
    let valid = ssn::is_ssn(digits(view, groups, &mut buffer)?) && stands_alone(view, start, end);
    (valid && (dashed || spoken)).then_some((
        Finding { start, end, kind: Kind::UsSsn, rule: "us-ssn", evidence: Evidence::Checksum },
        first + count,
    ))
}
