//! From a request's input to tokens: the chat template, the begin-of-text token, and the rule that what a
//! user typed is never a control token.

mod control;
mod markers;
mod template;

use crate::llama::{Ends, LlamaError, Model, Parse, Token};
use control::ControlTexts;
use markers::{Markers, Segment};
pub(crate) use template::{ChatTemplate, TemplateError};

/// One turn of a chat.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) role: String,
    pub(crate) content: String,
}

/// What a model is asked to continue.
pub(crate) enum Input {
    /// Goes through the chat template; contents are plain text.
    Chat(Vec<Message>),
    /// Is taken as it is; texts of control tokens are control tokens.
    Raw(String),
}

/// Why an input has no tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromptError {
    #[error("the prompt is empty")]
    Empty,
    #[error("a role is a word of lower-case letters, such as user or assistant")]
    Role,
    #[error("the model has no chat template")]
    NoTemplate,
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Llama(#[from] LlamaError),
}

/// Everything about one model that turning text into tokens needs.
pub(crate) struct Prompter {
    template: Option<ChatTemplate>,
    control: ControlTexts,
    begin_text: String,
    end_text: String,
}

impl Prompter {
    pub(crate) fn new(model: &Model, template: Option<ChatTemplate>) -> Self {
        let text_of = |token: Option<Token>| token.map(|token| model.text(token)).unwrap_or_default();
        Self {
            template,
            control: ControlTexts::new(model.control_texts()),
            begin_text: text_of(model.begin()),
            end_text: text_of(model.end()),
        }
    }

    pub(crate) fn has_template(&self) -> bool {
        self.template.is_some()
    }

    /// The tokens of `input`, at least one.
    pub(crate) fn tokens(&self, model: &Model, input: &Input) -> Result<Vec<Token>, PromptError> {
        let tokens = match input {
            Input::Raw(text) if text.trim().is_empty() => return Err(PromptError::Empty),
            Input::Raw(text) => model.tokenize(text, Parse::Special, self.ends(text))?,
            Input::Chat(messages) => self.chat_tokens(model, messages)?,
        };
        if tokens.is_empty() { Err(PromptError::Empty) } else { Ok(tokens) }
    }

    fn chat_tokens(&self, model: &Model, messages: &[Message]) -> Result<Vec<Token>, PromptError> {
        if messages.iter().all(|message| message.content.trim().is_empty()) {
            return Err(PromptError::Empty);
        }
        // The template writes the role beside control tokens, so it must not bring its own.
        if !messages.iter().all(|message| is_role(&message.role)) {
            return Err(PromptError::Role);
        }
        let template = self.template.as_ref().ok_or(PromptError::NoTemplate)?;
        let markers = Markers::absent_from(messages.iter().map(|message| message.content.as_str()));
        let rendered = self.render(template, messages, |content| markers.wrap(content))?;
        let Some(segments) = markers.split(&rendered) else {
            // The template took a content apart. Break control texts inside the contents instead.
            tracing::debug!(
                "the chat template changes message contents; control texts in them are broken up"
            );
            let text = self.render(template, messages, |content| self.control.break_up(content))?;
            return Ok(model.tokenize(&text, Parse::Special, self.ends(&text))?);
        };
        if !self.control.touch_typed(&segments) {
            // The usual case, tokenised in one piece exactly as the model was trained.
            let text: String = segments.iter().map(Segment::text).collect();
            return Ok(model.tokenize(&text, Parse::Special, self.ends(&text))?);
        }
        let mut tokens = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let ends = if index == 0 { self.ends(segment.text()) } else { Ends::Leave };
            let parse = match segment {
                Segment::Template(_) => Parse::Special,
                Segment::Typed(_) => Parse::Plain,
            };
            tokens.extend(model.tokenize(segment.text(), parse, ends)?);
        }
        Ok(tokens)
    }

    fn render(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
        content: impl Fn(&str) -> String,
    ) -> Result<String, TemplateError> {
        let turns =
            messages.iter().map(|message| (message.role.as_str(), content(&message.content))).collect();
        template.render(turns, &self.begin_text, &self.end_text)
    }

    /// Many templates write the begin-of-text token themselves; it must not come twice.
    fn ends(&self, text: &str) -> Ends {
        if !self.begin_text.is_empty() && text.starts_with(&self.begin_text) {
            Ends::Leave
        } else {
            Ends::Add
        }
    }
}

fn is_role(role: &str) -> bool {
    (1..=32).contains(&role.len()) && role.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
