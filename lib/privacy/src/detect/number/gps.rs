//! Pairs of coordinates: decimal degrees, or degrees, minutes and seconds.

use crate::detect::cues::Cue;
use crate::detect::finding::{Evidence, Finding};
use crate::detect::view::View;
use crate::kind::Kind;

const REACH: usize = 40;

/// One coordinate as read.
struct Coordinate {
    degrees: f64,
    fraction: usize,
    /// A degree sign or a letter for the hemisphere says what it is.
    marked: bool,
    end: usize,
}

/// The pair whose first digit is at `digit`.
pub(super) fn at(view: &View<'_>, digit: usize) -> Option<Finding> {
    let signed = matches!(view.before(digit), Some(b'-' | b'+'));
    let start = if signed { digit - 1 } else { digit };
    let latitude = read(view, digit)?;
    let gap = view.run(latitude.end, 3, |b| matches!(b, b',' | b';' | b' ' | b'/'));
    let second = if matches!(view.byte(gap), Some(b'-' | b'+')) { gap + 1 } else { gap };
    let longitude = (gap > latitude.end).then(|| read(view, second))??;
    let marked = latitude.marked && longitude.marked;
    let cue = view.is_near(start, REACH, Cue::Place);
    let precision = latitude.fraction.min(longitude.fraction);
    let comma = view.slice(latitude.end, gap).starts_with(',');
    let likely = marked
        || (cue && precision >= 3)
        || (comma && precision >= 4 && !in_code(view, start, longitude.end));
    (latitude.degrees <= 90.0
        && longitude.degrees <= 180.0
        && likely
        && view.opens(start)
        && view.closes(longitude.end))
    .then_some(Finding {
        start,
        end: longitude.end,
        kind: Kind::Gps,
        rule: "coordinates",
        evidence: Evidence::Shape,
    })
}

/// Degrees from `at`: `12.3456`, `12.3456° N`, `12°34'56.7"N`.
fn read(view: &View<'_>, at: usize) -> Option<Coordinate> {
    let mut end = number(view, at, 3)?;
    let degrees: f64 = view.slice(at, end).parse().ok()?;
    let fraction = view.slice(at, end).split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let mut marked = false;
    if let Some(after) = sign(view, end, &["°", "º", " deg"]) {
        marked = true;
        end = after;
        let minutes = view.run(end, 1, |b| b == b' ');
        if let Some(after) = number(view, minutes, 2).and_then(|n| sign(view, n, &["'", "′", "’"])) {
            end = after;
            let seconds = view.run(end, 1, |b| b == b' ');
            if let Some(after) = number(view, seconds, 2).and_then(|n| sign(view, n, &["\"", "″", "''", "”"]))
            {
                end = after;
            }
        }
    }
    let letter = view.run(end, 1, |b| b == b' ');
    if view.byte(letter).is_some_and(|b| b"NSEWO".contains(&b)) && view.closes(letter + 1) {
        marked = true;
        end = letter + 1;
    }
    Some(Coordinate { degrees, fraction, marked, end })
}

/// The end of a decimal number with at most `whole` digits in front of its point.
fn number(view: &View<'_>, at: usize, whole: usize) -> Option<usize> {
    let point = view.run(at, whole + 1, |b| b.is_ascii_digit());
    if point == at || point - at > whole {
        return None;
    }
    let end = view.run(point + 1, 20, |b| b.is_ascii_digit());
    Some(if view.byte(point) == Some(b'.') && end > point + 1 { end } else { point })
}

fn sign(view: &View<'_>, at: usize, signs: &[&str]) -> Option<usize> {
    let rest = view.bytes.get(at..)?;
    signs.iter().find(|sign| rest.starts_with(sign.as_bytes())).map(|sign| at + sign.len())
}

/// Arguments of a call, elements of an array or of a longer row of numbers.
fn in_code(view: &View<'_>, start: usize, end: usize) -> bool {
    let call = view.before(start) == Some(b'(') && start >= 2 && !view.opens(start - 1);
    let array = matches!(view.before(start), Some(b'[' | b'{' | b','));
    let comma = view.slice(start.saturating_sub(2), start) == ", ";
    let next = view.run(end, 2, |b| matches!(b, b',' | b' '));
    let more =
        view.byte(end) == Some(b',') && view.byte(next).is_some_and(|b| b.is_ascii_digit() || b == b'-');
    call || array || comma || more
}
