//! What redaction would do to a text, for showing to the person who wrote it.

use std::fmt;

use crate::kind::Kind;

/// A text as it would leave, and each span that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The redacted text.
    pub text: String,
    /// Ascending and disjoint.
    pub spans: Vec<Span>,
}

/// One replaced stretch of the input.
#[derive(Clone, PartialEq, Eq)]
pub struct Span {
    /// What it is.
    pub kind: Kind,
    /// First byte in the input.
    pub start: usize,
    /// One past the last byte in the input.
    pub end: usize,
    /// What stands for it in [`Preview::text`].
    pub placeholder: String,
    /// The rule that found it.
    pub rule: &'static str,
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{} {} by {} as {}", self.start, self.end, self.kind, self.rule, self.placeholder)
    }
}
