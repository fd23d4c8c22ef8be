//! The compiled rules, and the one way from clear text to [`Redacted`].

use std::collections::BTreeMap;

use crate::detect::{CompileError, Detector, Finding, known};
use crate::draft::{Draft, replace};
use crate::json::{Document, NotJson, Shape};
use crate::kind::Kind;
use crate::message::{Message, UnknownRole};
use crate::preview::Preview;
use crate::redacted::{Redacted, RedactedJson};
use crate::vault::{Vault, VaultFull};

/// The rules cannot be used; nothing may be sent with them.
#[derive(Debug, thiserror::Error)]
#[error("the privacy rules do not compile")]
pub struct PolicyError(#[from] CompileError);

/// A request that cannot be redacted, and so must not be sent.
#[derive(Debug, thiserror::Error)]
pub enum RedactError {
    /// A message has a role outside the closed set.
    #[error("message {index} cannot be sent")]
    Role {
        /// Position of the message in the request, from 0.
        index: usize,
        /// Why.
        #[source]
        source: UnknownRole,
    },
    /// The tool calls of a message are no JSON.
    #[error("the tool calls of message {index} cannot be read")]
    ToolCalls {
        /// Position of the message in the request, from 0.
        index: usize,
        /// Why.
        #[source]
        source: NotJson,
    },
    /// Definitions of tools or a schema are no JSON.
    #[error("the definitions of tools or the schema cannot be read")]
    Json(#[source] NotJson),
    /// No placeholder is left.
    #[error(transparent)]
    VaultFull(#[from] VaultFull),
    /// The values of the session could not be searched for.
    #[error("the session's values cannot be searched for")]
    KnownValues(#[source] aho_corasick::BuildError),
}

/// A compiled rule set. Cheap to share behind an `Arc`, costly to build: build it once.
#[derive(Debug)]
pub struct Policy {
    detector: Detector,
}

impl Policy {
    /// Compiles the standard rules.
    ///
    /// # Errors
    /// When any rule does not compile: a policy with a hole is no policy.
    pub fn standard() -> Result<Self, PolicyError> {
        Ok(Self { detector: Detector::standard()? })
    }

    /// Takes everything sensitive out of all parts of all `messages` and remembers it in `vault`. A value found in
    /// one message is hidden in all of them, and in later requests of the same vault.
    ///
    /// # Errors
    /// An unknown role, tool calls that are no JSON, or a vault that is full; then nothing may be sent.
    pub fn redact(&self, messages: &[Message], vault: &mut Vault) -> Result<Redacted, RedactError> {
        let mut drafts = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            drafts.push(Draft::read(index, message, &self.detector)?);
        }
        for draft in &drafts {
            draft.remember(vault)?;
        }
        let known = known::Values::of(vault).map_err(RedactError::KnownValues)?;
        for draft in &mut drafts {
            draft.add_known(&known);
        }
        drop(known);
        let mut counts = BTreeMap::new();
        let mut count = |kind: Kind| *counts.entry(kind).or_insert(0) += 1;
        let messages: Result<_, RedactError> =
            drafts.iter().map(|draft| draft.write(vault, &mut count)).collect();
        Ok(Redacted { messages: messages?, counts })
    }

    /// Takes everything sensitive out of a JSON text, keys and numbers included, and remembers it in `vault`. What is
    /// taken out of a string leaves a string, and so does a number. The result is JSON, and the same but for that.
    ///
    /// # Errors
    /// When `json` is no JSON, or the vault is full; then nothing may be sent.
    pub fn redact_json(&self, json: &str, vault: &mut Vault) -> Result<RedactedJson, RedactError> {
        let mut document = Document::read(json, Shape::Any, &self.detector).map_err(RedactError::Json)?;
        document.remember(vault)?;
        document.add_known(&known::Values::of(vault).map_err(RedactError::KnownValues)?);
        let mut counts = BTreeMap::new();
        let text = document.write(vault, &mut |kind| *counts.entry(kind).or_insert(0) += 1)?;
        Ok(RedactedJson { text, counts })
    }

    /// What [`Policy::redact`] would do to `text` in a new session. Nothing is kept.
    ///
    /// # Errors
    /// As for [`Policy::redact`].
    pub fn preview(&self, text: &str) -> Result<Preview, RedactError> {
        let mut vault = Vault::new();
        let findings = self.find(&[text], &mut vault)?.pop().unwrap_or_default();
        Ok(replace(text, &findings, &mut vault)?)
    }

    /// The findings of each text: the rules first, then every value the session knows by now.
    fn find(&self, texts: &[&str], vault: &mut Vault) -> Result<Vec<Vec<Finding>>, RedactError> {
        let mut found: Vec<Vec<Finding>> = texts.iter().map(|text| self.detector.find(text)).collect();
        for (text, findings) in texts.iter().zip(&found) {
            for finding in findings {
                vault.placeholder(&text[finding.start..finding.end], finding.kind)?;
            }
        }
        let known = known::Values::of(vault).map_err(RedactError::KnownValues)?;
        for (text, findings) in texts.iter().zip(&mut found) {
            known.add_to(text, findings);
        }
        Ok(found)
    }
}
