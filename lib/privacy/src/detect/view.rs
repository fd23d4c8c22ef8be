//! The text a rule looks at, with the context words found in it. Positions are bytes.

use super::cues::Cue;
use super::gate::{Hit, Meaning};

/// A text and its context words.
pub(crate) struct View<'t> {
    pub(crate) text: &'t str,
    pub(crate) bytes: &'t [u8],
    /// Ascending by end.
    cues: Vec<(usize, Cue)>,
}

impl<'t> View<'t> {
    pub(crate) fn new(text: &'t str, hits: &[Hit]) -> Self {
        let cues = hits
            .iter()
            .filter_map(|hit| match hit.meaning {
                Meaning::Cue(cue) => Some((hit.end, cue)),
                _ => None,
            })
            .collect();
        Self { text, bytes: text.as_bytes(), cues }
    }

    /// The last of `wanted` that ends at most `reach` bytes before `at`, on whatever line.
    pub(crate) fn nearest(&self, at: usize, reach: usize, wanted: &[Cue]) -> Option<Cue> {
        let upto = self.cues.partition_point(|(end, _)| *end <= at);
        self.cues[..upto]
            .iter()
            .rev()
            .take_while(|(end, _)| end + reach >= at)
            .find(|(_, cue)| wanted.contains(cue))
            .map(|(_, cue)| *cue)
    }

    /// Whether, of the two cues, the nearest one in front of `at` on its line is `against`.
    pub(crate) fn speaks_against(&self, at: usize, reach: usize, against: Cue, unless: Cue) -> bool {
        let line = self.run_back(at, reach, |b| b != b'\n');
        self.nearest(at, at - line, &[against, unless]) == Some(against)
    }

    /// The byte before `at`.
    pub(crate) fn before(&self, at: usize) -> Option<u8> {
        at.checked_sub(1).and_then(|i| self.bytes.get(i)).copied()
    }

    /// The byte at `at`.
    pub(crate) fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// The text from `start` to `end`, widened to character boundaries.
    pub(crate) fn slice(&self, start: usize, end: usize) -> &'t str {
        let (start, end) = (self.text.floor_char_boundary(start), self.text.ceil_char_boundary(end));
        self.text.get(start..end).unwrap_or_default()
    }

    /// The end of the run of bytes from `at` that satisfy `class`, at most `limit` long.
    pub(crate) fn run(&self, at: usize, limit: usize, class: impl Fn(u8) -> bool) -> usize {
        at + self.bytes.get(at..).map_or(0, |rest| rest.iter().take(limit).take_while(|b| class(**b)).count())
    }

    /// The start of the run of bytes that ends at `at` and satisfies `class`, at most `limit` long.
    pub(crate) fn run_back(&self, at: usize, limit: usize, class: impl Fn(u8) -> bool) -> usize {
        at - self
            .bytes
            .get(..at)
            .map_or(0, |head| head.iter().rev().take(limit).take_while(|b| class(**b)).count())
    }

    /// Whether an ASCII word could not continue across `at` from the left.
    pub(crate) fn opens(&self, at: usize) -> bool {
        self.before(at).is_none_or(|b| !is_word(b))
    }

    /// Whether an ASCII word could not continue across `at` to the right.
    pub(crate) fn closes(&self, at: usize) -> bool {
        self.byte(at).is_none_or(|b| !is_word(b))
    }
}

/// An ASCII letter, digit or underscore. Other scripts do not separate words by spaces, so they end one.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether the literal at `start` does not continue a word to its left; `_` and other scripts may precede.
pub(crate) fn starts_word(bytes: &[u8], start: usize) -> bool {
    let first_is_word = bytes.get(start).is_some_and(u8::is_ascii_alphanumeric);
    !first_is_word
        || start.checked_sub(1).and_then(|i| bytes.get(i)).is_none_or(|b| !b.is_ascii_alphanumeric())
}

/// Whether the literal that ends at `end` is not continued to its right.
pub(crate) fn ends_word(bytes: &[u8], end: usize) -> bool {
    let last_is_word = end.checked_sub(1).and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_alphanumeric);
    !last_is_word || bytes.get(end).is_none_or(|b| !b.is_ascii_alphanumeric())
}
