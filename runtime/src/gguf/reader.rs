//! Little-endian primitives from a byte stream of known length. Nothing is allocated before it is known that
//! the file still has that many bytes.

use std::io::{self, Read};

use super::GgufError;

/// The longest text that is kept, in bytes: chat templates and licences are some tens of kilobytes.
const TEXT_LIMIT: u64 = 4 << 20;

/// Reads the header front to back and knows how much of the file is left.
pub(super) struct Reader<R> {
    source: R,
    position: u64,
    length: u64,
}

impl<R: Read> Reader<R> {
    /// `length` is the whole file's, in bytes.
    pub(super) fn new(source: R, length: u64) -> Self {
        Self { source, position: 0, length }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        self.require(what, N as u64)?;
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes).map_err(GgufError::Io)?;
        self.position += N as u64;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A count that must not pass `limit`.
    pub(super) fn count(&mut self, what: &'static str, limit: u64) -> Result<u64, GgufError> {
        let count = self.u64(what)?;
        if count > limit { Err(GgufError::Implausible { what, count, limit }) } else { Ok(count) }
    }

    /// A length-prefixed text.
    pub(super) fn text(&mut self, what: &'static str) -> Result<String, GgufError> {
        let length = self.count(what, TEXT_LIMIT)?;
        self.require(what, length)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| GgufError::Text { what })?];
        self.source.read_exact(&mut bytes).map_err(GgufError::Io)?;
        self.position += length;
        String::from_utf8(bytes).map_err(|_| GgufError::Text { what })
    }

    /// A text that names something: not empty, and without control characters. A NUL inside would make
    /// llama.cpp see another name than we checked.
    pub(super) fn name(&mut self, what: &'static str) -> Result<String, GgufError> {
        let name = self.text(what)?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(GgufError::Text { what });
        }
        Ok(name)
    }

    pub(super) fn skip(&mut self, what: &'static str, bytes: u64) -> Result<(), GgufError> {
        self.require(what, bytes)?;
        let skipped =
            io::copy(&mut (&mut self.source).take(bytes), &mut io::sink()).map_err(GgufError::Io)?;
        self.position += skipped;
        if skipped < bytes {
            return Err(GgufError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    fn require(&self, what: &'static str, needed: u64) -> Result<(), GgufError> {
        if self.length.saturating_sub(self.position) < needed {
            return Err(GgufError::TruncatedHeader { what, at: self.position, needed, length: self.length });
        }
        Ok(())
    }
}
