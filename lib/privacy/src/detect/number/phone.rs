//! Telephone numbers: international ones by their country code, national ones by how they are grouped, and what
//! a word like "phone" announces. A bare run of digits that nothing announces is none.

use super::cluster::{Cluster, MAX_DIGITS, all_gaps, digits, lengths, stands_alone};
use crate::check::dialling::{is_international, is_north_american};
use crate::detect::cues::Cue;
use crate::detect::finding::{Evidence, Finding};
use crate::detect::view::View;
use crate::kind::Kind;

/// How far before a number a word may announce it, or say that it counts something else, in bytes.
const REACH: usize = 48;
const CALL_REACH: usize = 24;
const COUNTER_REACH: usize = 24;

/// Why a number is a telephone number.
enum Reason {
    International,
    Grouping,
    Announced,
}

/// The number that starts with group `first`, and the group after it.
pub(super) fn at(view: &View<'_>, cluster: &Cluster, first: usize) -> Option<(Finding, usize)> {
    let groups = cluster.from(first);
    let begin = groups.first()?.0;
    let (start, plus) = prefix(view, begin);
    for count in (1..=groups.len()).rev() {
        let groups = &groups[..count];
        let end = extension(view, groups[count - 1].1);
        let mut buffer = [0; MAX_DIGITS];
        let Some(number) = digits(view, groups, &mut buffer) else { continue };
        if !stands_alone(view, start, end) {
            continue;
        }
        let separate = is_separate(view, cluster, first, count);
        let (rule, evidence) = match reason(view, begin, plus, groups, number) {
            Some(Reason::Grouping) if !separate => continue,
            Some(Reason::International) => ("phone-international", Evidence::Shape),
            Some(Reason::Grouping) => ("phone-grouping", Evidence::Context),
            Some(Reason::Announced) => ("phone-announced", Evidence::Context),
            None => continue,
        };
        return Some((Finding { start, end, kind: Kind::Phone, rule, evidence }, first + count));
    }
    None
}

/// Includes `+`, `(` and `(+` in front of the first digit.
fn prefix(view: &View<'_>, digit: usize) -> (usize, bool) {
    let mut start = digit;
    if view.before(start) == Some(b'(') {
        start -= 1;
    }
    let plus = view.before(start) == Some(b'+');
    if plus {
        start -= 1;
        if view.before(start) == Some(b'(') {
            start -= 1;
        }
    }
    (start, plus)
}

/// Includes `x508`, `ext. 12` behind the last digit.
fn extension(view: &View<'_>, end: usize) -> usize {
    let spaces = view.run(end, 2, |b| b == b' ');
    let rest = view.bytes.get(spaces..).unwrap_or_default();
    let word = ["extension", "ext.", "ext", "x", "durchwahl", "poste"]
        .iter()
        .find(|word| rest.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word.as_bytes())));
    let Some(word) = word else { return end };
    let number = view.run(spaces + word.len(), 2, |b| matches!(b, b' ' | b':'));
    let last = view.run(number, 6, |b| b.is_ascii_digit());
    if last > number && view.closes(last) { last } else { end }
}

fn reason(
    view: &View<'_>,
    begin: usize,
    plus: bool,
    groups: &[(usize, usize)],
    number: &[u8],
) -> Option<Reason> {
    if plus {
        return is_international(without_trunk_zero(view, groups, number)).then_some(Reason::International);
    }
    if is_date(groups) {
        return None;
    }
    let cue = is_announced(view, begin);
    let counted = view.speaks_against(begin, COUNTER_REACH, Cue::Counter, &[Cue::Phone, Cue::Call]);
    if counted {
        return None;
    }
    if let Some(rest) = number.strip_prefix(b"00")
        && (cue || is_dialled(view, groups))
        && is_international(rest)
    {
        return Some(Reason::International);
    }
    if is_national(view, groups, number) {
        return Some(Reason::Grouping);
    }
    (cue && (7..=15).contains(&number.len())).then_some(Reason::Announced)
}

/// Whether a word in front of `at` announces a telephone number.
pub(super) fn is_announced(view: &View<'_>, at: usize) -> bool {
    view.is_near(at, REACH, Cue::Phone) || view.is_near(at, CALL_REACH, Cue::Call)
}

/// `0044 20 ...`, `00353-1-...`: a prefix and a country code, then groups.
fn is_dialled(view: &View<'_>, groups: &[(usize, usize)]) -> bool {
    let first = groups.first().map_or(0, |(start, end)| end - start);
    groups.len() > 1 && first <= 5 && groups.windows(2).all(|pair| view.slice(pair[0].1, pair[1].0) != ".")
}

/// Whether the gaps around `count` groups differ from those inside: a stretch of a longer row is no number.
fn is_separate(view: &View<'_>, cluster: &Cluster, first: usize, count: usize) -> bool {
    let all = cluster.from(0);
    let gap = |at: usize| all.get(at).zip(all.get(at + 1)).map(|(a, b)| view.slice(a.1, b.0));
    let inside =
        |outer: Option<&str>| outer.is_some() && (first..first + count - 1).any(|at| gap(at) == outer);
    !inside(first.checked_sub(1).and_then(gap)) && !inside(gap(first + count - 1))
}

/// `+49 (0)30 ...`: the zero is not dialled after the country code, and may make the number one too long.
fn without_trunk_zero<'n>(view: &View<'_>, groups: &[(usize, usize)], number: &'n [u8]) -> &'n [u8] {
    let zero = groups.iter().skip(1).any(|(start, end)| end - start == 1 && view.byte(*start) == Some(b'0'));
    match number.split_last() {
        Some((_, shorter)) if zero => shorter,
        _ => number,
    }
}

/// Year, month and day in any order, with or without more behind them.
fn is_date(groups: &[(usize, usize)]) -> bool {
    matches!(lengths(groups), [4, 1 | 2, 1 | 2, ..] | [1 | 2, 1 | 2, 4, ..] | [4, 4, 0, ..])
}

/// Groupings that are used for telephone numbers and hardly for anything else.
fn is_national(view: &View<'_>, groups: &[(usize, usize)], number: &[u8]) -> bool {
    let lengths = lengths(groups);
    let dotted = all_gaps(view, groups, ".");
    let has_dot = groups.windows(2).any(|pair| view.slice(pair[0].1, pair[1].0) == ".");
    let spaced = all_gaps(view, groups, " ");
    let last_gap = groups.windows(2).next_back().map(|pair| view.slice(pair[0].1, pair[1].0));
    let mobile = matches!(number.first(), Some(b'6'..=b'9'));
    match lengths {
        // (201) 555-0123, 201-555-0123, 201.555.0123
        [3, 3, 4, 0, ..] if is_north_american(number) => !spaced || view.before(groups[0].0) == Some(b'('),
        // 1-201-555-0123
        [1, 3, 3, 4, 0, ..] => number[0] == b'1' && is_north_american(&number[1..]),
        // 01.23.45.67.89
        [2, 2, 2, 2, 2, 0] if number[0] == b'0' && number[1] != b'0' => dotted || !has_dot,
        // 030 123456, 0121 234 7200, 06 12345678, 03-1234-5678: a trunk zero
        [2..=6, ..] if number[0] == b'0' => {
            number[1] != b'0'
                && !has_dot
                && (2..=5).contains(&groups.len())
                && (8..=12).contains(&number.len())
                && groups.iter().any(|(start, end)| end - start > 2)
                && groups.last().is_some_and(|(start, end)| end - start >= 2)
        }
        // 612 34 56 78; 12 345 67 89
        [3, 2, 2, 2, 0, ..] => mobile && (spaced || all_gaps(view, groups, "-")),
        [2, 3, 2, 2, 0, ..] => spaced || all_gaps(view, groups, "-"),
        // 98765 43210
        [5, 5, 0, ..] => mobile && (spaced || all_gaps(view, groups, "-")),
        // (11) 91234-5678
        [2, 4 | 5, 4, 0, ..] => {
            last_gap == Some("-")
                && all_gaps(view, &groups[..2], " ") | (view.before(groups[0].0) == Some(b'('))
        }
        _ => false,
    }
}
