//! One message on its way to a `RedactedMessage`: first what the rules find in each part of it, then what the session
//! knows, then the text with placeholders.

use crate::detect::known::Values;
use crate::detect::{Detector, Finding};
use crate::json::{Document, Id, NotJson, Shape};
use crate::kind::Kind;
use crate::message::{Message, Role};
use crate::policy::RedactError;
use crate::preview::{Preview, Span};
use crate::redacted::RedactedMessage;
use crate::vault::{Vault, VaultFull};

/// A message with what has to be hidden in it.
pub(crate) struct Draft<'m> {
    role: Role,
    content: Content<'m>,
    tool_calls: Option<Document>,
    tool_call_id: Option<Id>,
    name: Option<Id>,
}

enum Content<'m> {
    Text { text: &'m str, findings: Vec<Finding> },
    Document(Document),
}

impl<'m> Draft<'m> {
    /// Finds what the rules find in `message`, the one at `index` in its request.
    pub(crate) fn read(index: usize, message: &'m Message, detector: &Detector) -> Result<Self, RedactError> {
        let role: Role = message.role.parse().map_err(|source| RedactError::Role { index, source })?;
        let unreadable = |source| RedactError::ToolCalls { index, source };
        let calls = message.tool_calls.as_deref();
        let calls = calls.map(|calls| Document::read(calls, Shape::ToolCalls, detector)).transpose();
        let id = |text: &Option<String>| text.clone().map(|text| Id::read(text, detector));
        Ok(Self {
            role,
            content: Content::read(role, &message.content, detector).map_err(unreadable)?,
            tool_calls: calls.map_err(unreadable)?,
            tool_call_id: id(&message.tool_call_id),
            name: id(&message.name),
        })
    }

    /// Remembers everything found in `vault`.
    pub(crate) fn remember(&self, vault: &mut Vault) -> Result<(), VaultFull> {
        match &self.content {
            Content::Text { text, findings } => {
                for finding in findings {
                    vault.placeholder(&text[finding.start..finding.end], finding.kind)?;
                }
            }
            Content::Document(document) => document.remember(vault)?,
        }
        self.tool_calls.iter().try_for_each(|calls| calls.remember(vault))
    }

    /// Adds what the session knows.
    pub(crate) fn add_known(&mut self, known: &Values<'_>) {
        match &mut self.content {
            Content::Text { text, findings } => known.add_to(text, findings),
            Content::Document(document) => document.add_known(known),
        }
        if let Some(calls) = &mut self.tool_calls {
            calls.add_known(known);
        }
        for id in self.tool_call_id.iter_mut().chain(&mut self.name) {
            id.add_known(known);
        }
    }

    /// The message with placeholders; `count` hears of each.
    pub(crate) fn write(
        &self,
        vault: &mut Vault,
        count: &mut impl FnMut(Kind),
    ) -> Result<RedactedMessage, RedactError> {
        let content = match &self.content {
            Content::Text { text, findings } => {
                let preview = replace(text, findings, vault)?;
                preview.spans.iter().for_each(|span| count(span.kind));
                preview.text
            }
            Content::Document(document) => document.write(vault, count)?,
        };
        let mut part = |id: &Option<Id>| id.as_ref().map(|id| id.write(vault, count)).transpose();
        let (tool_call_id, name) = (part(&self.tool_call_id)?, part(&self.name)?);
        let calls = self.tool_calls.as_ref().map(|calls| calls.write(vault, count)).transpose()?;
        Ok(RedactedMessage { role: self.role, content, tool_calls: calls, tool_call_id, name })
    }
}

impl<'m> Content<'m> {
    /// What a tool says is JSON more often than not, and then read as such. Other messages are shown to people as
    /// they are, and come back to the letter.
    fn read(role: Role, text: &'m str, detector: &Detector) -> Result<Self, NotJson> {
        if role == Role::Tool && text.trim_start().starts_with(['{', '[']) {
            match Document::read(text, Shape::Any, detector) {
                Ok(document) => return Ok(Self::Document(document)),
                Err(NotJson::TooDeep) => return Err(NotJson::TooDeep),
                Err(NotJson::Syntax { .. }) => {}
            }
        }
        Ok(Self::Text { text, findings: detector.find(text) })
    }
}

/// Replaces disjoint, ascending `findings`.
pub(crate) fn replace(text: &str, findings: &[Finding], vault: &mut Vault) -> Result<Preview, VaultFull> {
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
