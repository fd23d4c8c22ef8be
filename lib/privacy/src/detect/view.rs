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

    /// Whether one of `wanted` ends at most `reach` bytes before `at`, on whatever line.
    pub(crate) fn is_near(&self, at: usize, reach: usize, wanted: Cue) -> bool {
        self.nearest_end(at, reach, &[wanted]).is_some()
    }

    /// Whether the nearest cue in front of `at`, on its line and within `reach` bytes, is `against` and none of
    /// `unless`.
    pub(crate) fn speaks_against(&self, at: usize, reach: usize, against: Cue, unless: &[Cue]) -> bool {
        let line = at - self.run_back(at, reach, |b| b != b'\n');
        let nearest = |wanted: &[Cue]| self.nearest_end(at, line, wanted);
        nearest(&[against]).is_some_and(|end| nearest(unless).is_none_or(|other| other < end))
    }

    /// Where the last of `wanted` ends.
    fn nearest_end(&self, at: usize, reach: usize, wanted: &[Cue]) -> Option<usize> {
        let upto = self.cues.partition_point(|(end, _)| *end <= at);
        self.cues[..upto]
            .iter()
            .rev()
            .take_while(|(end, _)| end + reach >= at)
            .find(|(_, cue)| wanted.contains(cue))
            .map(|(end, _)| *end)
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
        self.before(at).is_none_or(|b| !is_word(b)) || self.edge(at)
    }

    /// Whether an escape ends at `at`; see [`edge`].
    pub(crate) fn edge(&self, at: usize) -> bool {
        edge(self.bytes, at)
    }

    /// `start`, or, where an escape reaches into what lies between `start` and `upto`, the escape's end: the `n`
    /// of `\nDB_PASS` belongs to no identifier.
    pub(crate) fn behind_escape(&self, start: usize, upto: usize) -> usize {
        (start..=upto).rev().find(|at| self.edge(*at)).unwrap_or(start)
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
        || edge(bytes, start)
}

/// Whether an escape ends at `at`: `\n` and its like, `\xXX` or `\uXXXX` of a string literal or JSON, or `%XX` of
/// a URL. Its last byte is a letter or digit that belongs to no word, so what follows stands at a border.
pub(crate) fn edge(bytes: &[u8], at: usize) -> bool {
    let Some(head) = bytes.get(..at) else { return false };
    let hex = |digits: &[u8]| digits.iter().all(u8::is_ascii_hexdigit);
    match head {
        [.., b'\\', b'n' | b'r' | b't' | b'f' | b'b' | b'v'] => true,
        [.., b'%', a, b] | [.., b'\\', b'x', a, b] => hex(&[*a, *b]),
        [.., b'\\', b'u', a, b, c, d] => hex(&[*a, *b, *c, *d]),
        _ => false,
    }
}

/// Whether the literal that ends at `end` is not continued to its right.
pub(crate) fn ends_word(bytes: &[u8], end: usize) -> bool {
    let last_is_word = end.checked_sub(1).and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_alphanumeric);
    !last_is_word || bytes.get(end).is_none_or(|b| !b.is_ascii_alphanumeric())
}
