//! Overlapping findings become one: it covers all of them, so that no detected byte stays visible, and takes the
//! label of the strongest.

use super::finding::{Evidence, Finding};

/// Sorts, widens to character boundaries, and joins what overlaps.
pub(crate) fn resolve(text: &str, mut found: Vec<Finding>) -> Vec<Finding> {
    for finding in &mut found {
        finding.start = text.floor_char_boundary(finding.start);
        finding.end = text.ceil_char_boundary(finding.end);
    }
    found.retain(|finding| finding.len() > 0);
    found.sort_by_key(|finding| (finding.start, std::cmp::Reverse(finding.end)));
    let mut joined: Vec<(Finding, Finding)> = Vec::with_capacity(found.len());
    for finding in found {
        match joined.last_mut() {
            Some((union, winner)) if finding.start < union.end => {
                union.end = union.end.max(finding.end);
                if outranks(&finding, winner) {
                    *winner = finding;
                }
            }
            _ => joined.push((finding, finding)),
        }
    }
    joined
        .into_iter()
        .map(|(union, winner)| Finding { start: union.start, end: union.end, ..winner })
        .collect()
}

/// Checksum before shape before label before context, the wider of equals; but a whole that is sure of itself (a key block, a
/// connection string) is never renamed after a part of it.
fn outranks(new: &Finding, old: &Finding) -> bool {
    if encloses(old, new) && old.evidence >= Evidence::Shape {
        return false;
    }
    if encloses(new, old) && new.evidence >= Evidence::Shape {
        return true;
    }
    (new.evidence, new.len()) > (old.evidence, old.len())
}

fn encloses(outer: &Finding, inner: &Finding) -> bool {
    outer.start <= inner.start && inner.end <= outer.end && outer.len() > inner.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;

    fn finding(start: usize, end: usize, kind: Kind, evidence: Evidence) -> Finding {
        Finding { start, end, kind, rule: "test", evidence }
    }

    #[test]
    fn an_overlap_covers_both_and_is_named_after_the_stronger() {
        let found = vec![
            finding(0, 6, Kind::Phone, Evidence::Context),
            finding(4, 9, Kind::CreditCard, Evidence::Checksum),
            finding(9, 10, Kind::Email, Evidence::Shape),
        ];
        let resolved = resolve("0123456789", found);
        assert_eq!(resolved.len(), 2);
        assert_eq!((resolved[0].start, resolved[0].end, resolved[0].kind), (0, 9, Kind::CreditCard));
        assert_eq!((resolved[1].start, resolved[1].end), (9, 10));
    }

    #[test]
    fn a_connection_string_is_not_renamed_after_the_address_in_it() {
        let found = vec![
            finding(0, 10, Kind::DbConnection, Evidence::Shape),
            finding(3, 8, Kind::IpAddress, Evidence::Checksum),
        ];
        assert_eq!(resolve("0123456789", found)[0].kind, Kind::DbConnection);
    }

    #[test]
    fn a_span_inside_a_character_is_widened_to_it() {
        let resolved = resolve("aé", vec![finding(0, 2, Kind::Password, Evidence::Context)]);
        assert_eq!((resolved[0].start, resolved[0].end), (0, 3));
    }
}
