//! The one pass over all literals: which rules may look at the text at all, and where.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind, MatchKind};

use super::CompileError;
use super::cues::{self, Cue};
use super::keyed::{self, Key};
use super::labelled::Labelled;
use super::markers;
use super::prefixed::Prefixed;
use super::view::{ends_word, starts_word};

/// What a literal found in the text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A word that makes other findings more or less likely.
    Cue(Cue),
    /// The beginning of what this rule matches.
    Prefixed(usize),
    /// A label in front of what this rule matches.
    Labelled(usize),
    /// A key whose value is secret.
    Key(Key),
    /// The beginning of something with a parser of its own.
    Marker(Marker),
}

/// Literals with a parser of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    /// `://`, or the colon of `jdbc:`.
    Scheme,
    /// The first line of a private key block.
    Key,
    /// The middle of a Telegram bot token.
    Bot,
}

/// One literal found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit {
    pub(crate) meaning: Meaning,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The automaton over all literals.
#[derive(Debug)]
pub(crate) struct Gate {
    automaton: AhoCorasick,
    meanings: Vec<Meaning>,
}

impl Gate {
    pub(crate) fn build(prefixed: &[Prefixed], labelled: &[Labelled]) -> Result<Self, CompileError> {
        let mut literals: Vec<(&str, Meaning)> = Vec::new();
        for (rule, prefixed) in prefixed.iter().enumerate() {
            literals.extend(prefixed.literals().iter().map(|text| (*text, Meaning::Prefixed(rule))));
        }
        for (rule, labelled) in labelled.iter().enumerate() {
            literals.extend(labelled.labels().iter().map(|text| (*text, Meaning::Labelled(rule))));
        }
        for (cue, words) in cues::WORDS {
            literals.extend(words.iter().map(|word| (*word, Meaning::Cue(*cue))));
        }
        literals.extend(keyed::KEYS.iter().map(|(text, key)| (*text, Meaning::Key(*key))));
        literals.extend(markers::LITERALS.iter().map(|(text, marker)| (*text, Meaning::Marker(*marker))));
        let automaton = AhoCorasickBuilder::new()
            .kind(Some(AhoCorasickKind::DFA))
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .build(literals.iter().map(|(text, _)| *text))
            .map_err(CompileError::Literals)?;
        Ok(Self { automaton, meanings: literals.into_iter().map(|(_, meaning)| meaning).collect() })
    }

    /// All literals in the order in which they end. Words count only where they stand alone.
    pub(crate) fn hits(&self, text: &str) -> Vec<Hit> {
        let bytes = text.as_bytes();
        self.automaton
            .find_overlapping_iter(bytes)
            .map(|m| Hit { meaning: self.meanings[m.pattern().as_usize()], start: m.start(), end: m.end() })
            .filter(|hit| match hit.meaning {
                // As a part of an identifier these words mean something else.
                Meaning::Cue(Cue::Call) => !touches_underscore(bytes, hit) && is_whole_word(bytes, hit),
                Meaning::Cue(_) | Meaning::Labelled(_) => is_whole_word(bytes, hit),
                Meaning::Prefixed(_) | Meaning::Key(_) | Meaning::Marker(_) => true,
            })
            .collect()
    }
}

fn is_whole_word(bytes: &[u8], hit: &Hit) -> bool {
    starts_word(bytes, hit.start) && ends_word(bytes, hit.end)
}

fn touches_underscore(bytes: &[u8], hit: &Hit) -> bool {
    let before = hit.start.checked_sub(1).and_then(|at| bytes.get(at));
    before == Some(&b'_') || bytes.get(hit.end) == Some(&b'_')
}
