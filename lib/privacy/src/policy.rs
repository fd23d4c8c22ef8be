//! The compiled rules, and the one way from clear text to [`Redacted`].

use std::collections::BTreeMap;

use crate::detect::{CompileError, Detector, Finding, known};
use crate::message::{Message, Role, UnknownRole};
use crate::preview::{Preview, Span};
use crate::redacted::{Redacted, RedactedMessage};
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

    /// Takes everything sensitive out of all `messages` and remembers it in `vault`. A value found in one
    /// message is hidden in all of them, and in later requests of the same vault.
    ///
    /// # Errors
    /// An unknown role, or a vault that is full; then nothing may be sent.
    pub fn redact(&self, messages: &[Message], vault: &mut Vault) -> Result<Redacted, RedactError> {
        let mut roles = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            roles.push(message.role.parse::<Role>().map_err(|source| RedactError::Role { index, source })?);
        }
        let texts: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
        let mut counts = BTreeMap::new();
        let mut redacted = Vec::with_capacity(messages.len());
        for (role, (text, findings)) in roles.into_iter().zip(texts.iter().zip(self.find(&texts, vault)?)) {
            let preview = replace(text, &findings, vault)?;
            for span in &preview.spans {
                *counts.entry(span.kind).or_insert(0) += 1;
            }
            redacted.push(RedactedMessage { role, content: preview.text });
        }
        Ok(Redacted { messages: redacted, counts })
    }

    /// What [`Policy::redact`] would do to `text` in a new session. Nothing is kept.
    ///
    /// # Errors
    /// As for [`Policy::redact`].
    pub fn preview(&self, text: &str) -> Result<Preview, RedactError> {
        let mut vault = Vault::new();
        let findings = self.find(&[text], &mut vault)?.pop().unwrap_or_default();
        replace(text, &findings, &mut vault)
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

/// Replaces disjoint, ascending `findings`.
fn replace(text: &str, findings: &[Finding], vault: &mut Vault) -> Result<Preview, RedactError> {
    let mut out = String::with_capacity(text.len());
    let mut spans = Vec::with_capacity(findings.len());
    let mut copied = 0;
    for finding in findings {
        let Finding { start, end, kind, rule, .. } = *finding;
        let placeholder = vault.placeholder(&text[start..end], kind)?.to_owned();
        out.push_str(&text[copied..start]);
        out.push_str(&placeholder);
        spans.push(Span { kind, start, end, placeholder, rule });
        copied = end;
    }
    out.push_str(&text[copied..]);
    Ok(Preview { text: out, spans })
}
