//! Values the session already redacted, found again without their context: a password named once must not leave
//! in the next message as a bare word.

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError, MatchKind};

use super::finding::{Evidence, Finding};
use super::overlap;
use super::view::{ends_word, starts_word};
use crate::kind::Kind;
use crate::vault::Vault;

/// Shorter values are too likely to be words of their own.
const SHORTEST: usize = 5;
/// Longer values have a shape that finds them again, and would bloat the automaton.
const LONGEST: usize = 256;
/// From this length on a value is hidden even inside a longer word.
const UNMISTAKABLE: usize = 12;

/// The searchable values of a vault.
pub(crate) struct Values {
    automaton: AhoCorasick,
    kinds: Vec<Kind>,
}

impl Values {
    /// Collects what is worth searching for.
    pub(crate) fn of(vault: &Vault) -> Result<Self, BuildError> {
        let entries: Vec<_> = vault
            .entries()
            .filter(|entry| {
                (SHORTEST..=LONGEST).contains(&entry.value.len()) && !is_name_in_code(&entry.value)
            })
            .collect();
        let automaton = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::Standard)
            .build(entries.iter().map(|entry| entry.value.as_bytes()))?;
        Ok(Self { automaton, kinds: entries.iter().map(|entry| entry.kind).collect() })
    }

    /// Adds every occurrence in `text` to `findings`, which stay disjoint and ascending.
    pub(crate) fn add_to(&self, text: &str, findings: &mut Vec<Finding>) {
        let bytes = text.as_bytes();
        let rules = findings.len();
        for found in self.automaton.find_overlapping_iter(bytes) {
            let (start, end) = (found.start(), found.end());
            let alone = starts_word(bytes, start) && ends_word(bytes, end);
            let next = findings[..rules].partition_point(|finding| finding.end < end);
            let covered = findings[..rules].get(next).is_some_and(|finding| finding.start <= start);
            if !covered && (alone || found.len() >= UNMISTAKABLE) {
                let kind = self.kinds[found.pattern().as_usize()];
                findings.push(Finding { start, end, kind, rule: "known-value", evidence: Evidence::Context });
            }
        }
        if findings.len() > rules {
            *findings = overlap::resolve(text, std::mem::take(findings));
        }
    }
}

/// Letters joined by `_` or `::`: were such a name taken for a value once, it would be hidden all over the code.
fn is_name_in_code(value: &str) -> bool {
    value.contains(['_', ':'])
        && value.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b':' | b'.'))
}
