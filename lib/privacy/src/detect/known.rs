//! Values the session already redacted, found again without their context: a password named once must not leave
//! in the next message as a bare word.

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError, MatchKind};

use super::finding::{Evidence, Finding};
use super::view::{ends_word, starts_word};
use super::{connection, overlap, url};
use crate::check::secrecy;
use crate::kind::Kind;
use crate::vault::{Entry, Vault};

/// Shorter values are too likely to be words of their own.
const SHORTEST: usize = 5;
/// Longer values have a shape that finds them again, and would bloat the automaton.
const LONGEST: usize = 256;
/// From this length on a value is hidden even inside a longer word.
const UNMISTAKABLE: usize = 12;

/// From this length on a password of letters alone is no common word.
const UNCOMMON: usize = 8;

/// The searchable values of a vault.
pub(crate) struct Values<'v> {
    automaton: AhoCorasick,
    values: Vec<(&'v str, Kind)>,
}

impl<'v> Values<'v> {
    /// Collects what is worth searching for.
    pub(crate) fn of(vault: &'v Vault) -> Result<Self, BuildError> {
        let whole = vault.entries().map(|entry| (entry.value.as_str(), entry.kind));
        let inner = vault.entries().filter_map(inner_secret).map(|secret| (secret, Kind::Password));
        let values: Vec<_> = whole.chain(inner).filter(|(value, kind)| is_searchable(value, *kind)).collect();
        let automaton = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .build(values.iter().map(|(value, _)| value.as_bytes()))?;
        Ok(Self { automaton, values })
    }

    /// Adds every occurrence in `text`, whatever its case, to `findings`, which stay disjoint and ascending. An
    /// occurrence in another case is a value of its own to the vault, so that it comes back as it was typed.
    pub(crate) fn add_to(&self, text: &str, findings: &mut Vec<Finding>) {
        let bytes = text.as_bytes();
        let rules = findings.len();
        for found in self.automaton.find_overlapping_iter(bytes) {
            let (start, end) = (found.start(), found.end());
            let alone = starts_word(bytes, start) && ends_word(bytes, end);
            let next = findings[..rules].partition_point(|finding| finding.end < end);
            let covered = findings[..rules].get(next).is_some_and(|finding| finding.start <= start);
            if !covered && (alone || found.len() >= UNMISTAKABLE) {
                let (_, kind) = self.values[found.pattern().as_usize()];
                findings.push(Finding { start, end, kind, rule: "known-value", evidence: Evidence::Context });
            }
        }
        if findings.len() > rules {
            *findings = overlap::resolve(text, std::mem::take(findings));
        }
    }
}

/// Whether `value` says enough to be looked for where nothing announces it.
fn is_searchable(value: &str, kind: Kind) -> bool {
    let letters = value.bytes().all(|b| b.is_ascii_alphabetic());
    let common = kind == Kind::Password && letters && value.len() < UNCOMMON;
    let chosen = kind == Kind::Password && value.len() >= UNCOMMON;
    (SHORTEST..=LONGEST).contains(&value.len()) && !common && (chosen || !is_name_in_code(value))
}

/// Letters joined by `_` or `::`: were such a name taken for a value once, it would be hidden all over the code.
fn is_name_in_code(value: &str) -> bool {
    value.contains(['_', ':'])
        && value.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b':' | b'.'))
}

/// The password in a URL or a connection string, unless it is a word: `postgres:postgres` says nothing.
fn inner_secret(entry: &Entry) -> Option<&str> {
    let value = entry.value.as_str();
    let secret = match entry.kind {
        Kind::UrlCredentials => value.split_once(':')?.1,
        Kind::DbConnection => url::password(value).or_else(|| connection::password(value))?,
        _ => return None,
    };
    (secrecy::is_chosen(secret) && !secrecy::is_stand_in(secret)).then_some(secret)
}
