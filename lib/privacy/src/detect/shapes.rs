//! The one pass over byte classes: digits, `@`, `[`, colons and other separators lead to the rules for shapes
//! that have no literal of their own.

use super::finding::{Evidence, Finding};
use super::view::View;
use super::{email, network, number};
use crate::kind::Kind;
use crate::placeholder::{self, Shape};

/// Runs every rule that a byte class triggers.
pub(super) fn find(view: &View<'_>, found: &mut Vec<Finding>) {
    let bytes = view.bytes;
    // Ends of the digit cluster and the colon run that were looked at last.
    let (mut after_number, mut after_colons) = (0, 0);
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'0'..=b'9' => {
                // Only the beginning of a run starts a number.
                let end = view.run(at, usize::MAX, |b| b.is_ascii_digit());
                if at >= after_number {
                    after_number = number_at(view, at, end, found);
                }
                at = end;
                continue;
            }
            b'@' => found.extend(email::around(view, at, 1)),
            b'%' | b'&' | b'\\' => found.extend(email::around_encoded(view, at)),
            b'[' => found.extend(look_alike(view, at)),
            b':' => {
                if at >= after_colons {
                    let (end, finding) = network::ipv6(view, at);
                    after_colons = end;
                    found.extend(finding);
                }
                found.extend(network::mac(view, at));
            }
            b'-' | b'.' if at > 0 && bytes[at - 1].is_ascii_hexdigit() => {
                found.extend(network::mac(view, at))
            }
            _ => {}
        }
        at += 1;
    }
}

/// Longest end of an escape that digits alone can be: the `0020` of `\u0020`.
const MAX_ESCAPE: usize = 4;

/// Looks at the run of digits from `at` to `end`, and, when it begins with the end of an escape, as in
/// `%2010.1.2.3`, at what follows that. Returns the position up to which nothing else needs a look.
fn number_at(view: &View<'_>, at: usize, end: usize, found: &mut Vec<Finding>) -> usize {
    let known = found.len();
    let mut after = number::at(view, at, found).max(at + 1);
    let inner = (at + 1..end.min(at + 1 + MAX_ESCAPE)).find(|inner| view.edge(*inner));
    if let (Some(inner), true) = (inner, found.len() == known) {
        after = after.max(number::at(view, inner, found));
    }
    after
}

/// Text the user typed that has the shape of a placeholder: hidden like a value, so that it comes back as typed
/// and is never taken for one of ours.
fn look_alike(view: &View<'_>, at: usize) -> Option<Finding> {
    match placeholder::shape(&view.bytes[at..]) {
        Shape::Whole(len) => Some(Finding {
            start: at,
            end: at + len,
            kind: Kind::Custom,
            rule: "placeholder-look-alike",
            evidence: Evidence::Shape,
        }),
        Shape::Unfinished | Shape::Other => None,
    }
}
