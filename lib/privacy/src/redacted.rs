//! The only text that may leave the device.

use std::collections::BTreeMap;

use crate::kind::Kind;
use crate::message::Role;

/// A request whose every message went through the detectors. Only `Policy::redact` makes one: there is no
/// public constructor, no `Default` and no deserialization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted {
    pub(crate) messages: Vec<RedactedMessage>,
    pub(crate) counts: BTreeMap<Kind, usize>,
}

impl Redacted {
    /// The messages, in the order they came.
    pub fn messages(&self) -> &[RedactedMessage] {
        &self.messages
    }

    /// How many spans of each kind were taken out; kinds that did not occur are absent.
    pub fn counts(&self) -> &BTreeMap<Kind, usize> {
        &self.counts
    }

    /// The rule set that was used: [`crate::DETECTOR_VERSION`].
    pub fn detector_version(&self) -> &'static str {
        crate::DETECTOR_VERSION
    }
}

/// One message of a [`Redacted`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedactedMessage {
    pub(crate) role: Role,
    pub(crate) content: String,
}

impl RedactedMessage {
    /// Who speaks.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The text with placeholders for what was found.
    pub fn content(&self) -> &str {
        &self.content
    }
}
