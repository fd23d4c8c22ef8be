//! Detect, redact, restore: what leaves the device, and what comes back. Pure: no I/O, no clock, no tasks.
//!
//! [`Policy::redact`] turns every [`Message`] of a request into a [`Redacted`] and remembers what it took out
//! in the session's [`Vault`]. [`Redacted`] has no other constructor, so a function that takes one can only
//! be given text the detectors have seen; [`Policy::redact_json`] makes the only [`RedactedJson`] in the same way.
//! [`Vault::restorer`] puts the values back into the streamed answer.
//!
//! Redacted does not mean anonymous: detection is a best effort over shapes, checksums and context, and the
//! rest of a text can still say who wrote it. Names and postal addresses are not detected yet.

mod check;
mod detect;
mod draft;
mod json;
mod kind;
mod message;
mod placeholder;
mod policy;
mod preview;
mod redacted;
mod restore;
mod vault;

pub use json::NotJson;
pub use kind::Kind;
pub use message::{Message, Role, UnknownRole};
pub use policy::{Policy, PolicyError, RedactError};
pub use preview::{Preview, Span};
pub use redacted::{Redacted, RedactedJson, RedactedMessage};
pub use restore::Restorer;
pub use vault::{Vault, VaultFull};

/// Names the rule set in audit lines and receipts; changes whenever a rule does.
pub const DETECTOR_VERSION: &str = "rules-3";
