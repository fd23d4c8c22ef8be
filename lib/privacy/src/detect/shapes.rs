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
                if at >= after_number {
                    after_number = number::at(view, at, found).max(at + 1);
                }
                // Only the beginning of a run starts a number.
                at = view.run(at, usize::MAX, |b| b.is_ascii_digit());
                continue;
            }
            b'@' => found.extend(email::around(view, at)),
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
