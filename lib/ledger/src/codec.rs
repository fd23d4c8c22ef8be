//! The canonical bytes: a domain, then fields in a fixed order, so that equal values have equal bytes and no
//! two values share them.
//!
//! Every integer, lengths included, is 8 bytes big endian (signed ones in two's complement); a text or a blob
//! is its length, then its bytes; hashes and signatures are bare. Nothing may follow the last field.

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They do not start with the expected format and version.
    #[error("not a {0}")]
    Domain(&'static str),
    /// They end inside a field.
    #[error("ends inside the field {0}")]
    Truncated(&'static str),
    /// Something follows the last field.
    #[error("{0} bytes too many at the end")]
    TrailingBytes(usize),
    /// A field has a value that it cannot have.
    #[error("the field {0} has an impossible value")]
    Invalid(&'static str),
}

#[derive(Default)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn new(domain: &str) -> Self {
        Self([domain.as_bytes(), &[0]].concat())
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn i64(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn fixed(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn blob(self, bytes: &[u8]) -> Self {
        self.u64(bytes.len() as u64).fixed(bytes)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

pub(crate) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    pub(crate) fn new(domain: &'static str, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        bytes
            .strip_prefix(domain.as_bytes())
            .and_then(|rest| rest.strip_prefix(&[0]))
            .map(Self)
            .ok_or(DecodeError::Domain(domain))
    }

    pub(crate) fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated(field))?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.fixed(field).map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.fixed(field).map(i64::from_be_bytes)
    }

    pub(crate) fn blob(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.u64(field)?;
        let length = usize::try_from(length).map_err(|_| DecodeError::Truncated(field))?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Truncated(field))?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let bytes = self.blob(field)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Invalid(field))
    }

    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes(self.0.len())) }
    }
}
