//! Everything that begins with a digit: which rules look at it, in which order.

mod cluster;
mod gps;
mod iban;
mod identity;
mod phone;
pub(super) mod wallet;

use cluster::Cluster;

use super::finding::Finding;
use super::network;
use super::view::{View, is_word};

/// Looks at the run of digits that starts at `at`; returns the position up to which nothing else needs a look.
pub(super) fn at(view: &View<'_>, at: usize, found: &mut Vec<Finding>) -> usize {
    if view.before(at).is_some_and(is_word) && !view.edge(at) {
        return take(iban::at(view, at), found).unwrap_or(0);
    }
    if let Some(end) = take(network::ipv4(view, at), found)
        .or_else(|| take(wallet::base58(view, at), found))
        .or_else(|| take(gps::at(view, at), found))
    {
        return end;
    }
    // Four or more dotted parts that are no address are a version or an object id, and no phone number either.
    let dotted = view.run(at, 64, |b| b.is_ascii_digit() || b == b'.');
    let parts = view.slice(at, dotted).trim_end_matches('.').split('.').count();
    if parts >= 4 && !phone::is_announced(view, at) {
        return dotted;
    }
    let cluster = Cluster::at(view, at);
    let mut group = 0;
    while group < cluster.len() {
        let next = identity::card(view, &cluster, group)
            .or_else(|| identity::ssn(view, &cluster, group))
            .or_else(|| phone::at(view, &cluster, group));
        group = match next {
            Some((finding, next)) => {
                found.push(finding);
                next
            }
            None => group + 1,
        };
    }
    cluster.end()
}

fn take(finding: Option<Finding>, found: &mut Vec<Finding>) -> Option<usize> {
    found.extend(finding);
    finding.map(|finding| finding.end)
}
