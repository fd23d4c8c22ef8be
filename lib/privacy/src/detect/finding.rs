//! What a rule reports.

use crate::kind::Kind;

/// How sure a rule is, weakest first: decides whose label an overlap gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Evidence {
    /// Words around it.
    Context,
    /// A label directly in front of it.
    Label,
    /// Its own shape or prefix.
    Shape,
    /// A checksum or a parser.
    Checksum,
}

/// A stretch of the text that must not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) kind: Kind,
    pub(crate) rule: &'static str,
    pub(crate) evidence: Evidence,
}

impl Finding {
    pub(crate) fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }
}
