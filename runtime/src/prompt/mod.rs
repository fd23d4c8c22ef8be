//! From a request's input to tokens: the chat template, the begin-of-text token, and the rule that what a
//! user typed is never a control token.

mod chat;
mod control;
mod json;
mod markers;
mod tags;
mod template;

use minijinja::value::Serde;

use crate::llama::{Ends, LlamaError, Model, Parse, Token};
pub(crate) use chat::{Chat, Message};
use control::ControlTexts;
use markers::{Markers, Segment};
use template::Variables;
pub(crate) use template::{ChatTemplate, TemplateError};

/// What a model is asked to continue.
#[derive(Clone, PartialEq)]
pub(crate) enum Input {
    /// Goes through the chat template; contents are plain text.
    Chat(Chat),
    /// Is taken as it is; texts of control tokens are control tokens.
    Raw(String),
}

/// Where the tokens of a chat end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Behind the opening of the assistant's answer: the model goes on from there.
    Answer,
    /// Behind the last message: what further messages and answers have in common.
    None,
}

/// Why an input has no tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PromptError {
    #[error("the prompt is empty")]
    Empty,
    #[error("a role is a word of lower-case letters, such as user or assistant")]
    Role,
    #[error("the tools are not a JSON array of objects: {0}")]
    Tools(#[source] serde_json::Error),
    #[error("the tool calls of a message are not a JSON array of objects: {0}")]
    ToolCalls(#[source] serde_json::Error),
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

    /// Whether the chat template does something with tools.
    pub(crate) fn takes_tools(&self) -> bool {
        self.template.as_ref().is_some_and(ChatTemplate::takes_tools)
    }

    /// The tokens of `input`, at least one.
    pub(crate) fn tokens(
        &self,
        model: &Model,
        input: &Input,
        opening: Opening,
    ) -> Result<Vec<Token>, PromptError> {
        let tokens = match input {
            Input::Raw(text) if text.trim().is_empty() => return Err(PromptError::Empty),
            Input::Raw(text) => model.tokenize(text, Parse::Special, self.ends(text))?,
            Input::Chat(chat) => self.chat_tokens(model, chat, opening)?,
        };
        if tokens.is_empty() { Err(PromptError::Empty) } else { Ok(tokens) }
    }

    fn chat_tokens(&self, model: &Model, chat: &Chat, opening: Opening) -> Result<Vec<Token>, PromptError> {
        if chat.messages.iter().all(Message::is_blank) {
            return Err(PromptError::Empty);
        }
        // The template writes the role beside control tokens, so it must not bring its own.
        if !chat.messages.iter().all(|message| is_role(message.role())) {
            return Err(PromptError::Role);
        }
        let template = self.template.as_ref().ok_or(PromptError::NoTemplate)?;
        let markers = Markers::absent_from(chat.typed().into_iter());
        let render = |text: &dyn Fn(&str) -> String| self.render(template, chat, opening, text);
        let rendered = render(&|text| markers.wrap(text))?;
        let mut segments = markers.split(&rendered);
        // Templates look into tools and calls more than into contents, and must not see a difference.
        if let Some(parts) = &segments
            && chat.is_structured()
            && render(&str::to_owned)? != joined(parts)
        {
            segments = None;
        }
        let Some(segments) = segments else {
            // The template took a text apart. Break control texts inside the texts instead.
            tracing::debug!("the chat template changes typed texts; control texts in them are broken up");
            let text = render(&|text| self.control.break_up(text))?;
            return Ok(model.tokenize(&text, Parse::Special, self.ends(&text))?);
        };
        if !self.control.touch_typed(&segments) {
            // The usual case, tokenised in one piece exactly as the model was trained.
            let text = joined(&segments);
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
        chat: &Chat,
        opening: Opening,
        text: &dyn Fn(&str) -> String,
    ) -> Result<String, TemplateError> {
        let (messages, tools) = chat.written(text, &|key| self.control.break_up(key));
        template.render(Variables {
            messages: Serde(messages).into(),
            tools: tools.map(|tools| Serde(tools).into()),
            opens_answer: opening == Opening::Answer,
            begin_text: &self.begin_text,
            end_text: &self.end_text,
        })
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

fn joined(segments: &[Segment<'_>]) -> String {
    segments.iter().map(Segment::text).collect()
}

fn is_role(role: &str) -> bool {
    (1..=32).contains(&role.len()) && role.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}
