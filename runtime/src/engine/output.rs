//! From the bytes of tokens to the text that leaves: whole characters, up to the first stop string.

use super::stop::{Scan, StopScanner};
use super::utf8::Utf8Buffer;

/// The text side of one answer.
pub(super) struct Output {
    characters: Utf8Buffer,
    scanner: StopScanner,
}

impl Output {
    pub(super) fn new(stops: Vec<String>) -> Self {
        Self { characters: Utf8Buffer::default(), scanner: StopScanner::new(stops) }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Scan {
        let text = self.characters.push(bytes);
        self.scanner.push(&text)
    }

    /// What was held back, when no token comes any more. A stop string that only becomes complete now still
    /// counts.
    pub(super) fn finish(&mut self) -> String {
        let rest = self.characters.finish();
        match self.scanner.push(&rest) {
            Scan::Stopped(text) => text,
            Scan::Text(text) => text + &self.scanner.finish(),
        }
    }
}
