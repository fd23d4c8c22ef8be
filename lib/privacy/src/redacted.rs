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
    pub(crate) tool_calls: Option<String>,
    pub(crate) tool_call_id: Option<String>,
    pub(crate) name: Option<String>,
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

    /// The assistant's calls of tools, as JSON.
    pub fn tool_calls(&self) -> Option<&str> {
        self.tool_calls.as_deref()
    }

    /// The call that a tool's message answers: the id that the call has in [`Self::tool_calls`] too.
    pub fn tool_call_id(&self) -> Option<&str> {
        self.tool_call_id.as_deref()
    }

    /// The tool that answers.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// A JSON text (definitions of tools, a schema) that went through the detectors. Only `Policy::redact_json` makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedactedJson {
    pub(crate) text: String,
    pub(crate) counts: BTreeMap<Kind, usize>,
}

impl RedactedJson {
    /// Valid JSON, with placeholders for what was found.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many spans of each kind were taken out; kinds that did not occur are absent.
    pub fn counts(&self) -> &BTreeMap<Kind, usize> {
        &self.counts
    }
}
