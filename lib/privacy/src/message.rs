//! One message of a conversation in clear text, and the roles it may have.

use std::fmt;
use std::str::FromStr;

/// One message in clear text. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`; anything else is refused by `Policy::redact`.
    pub role: String,
    /// The text; may be empty beside tool calls.
    pub content: String,
    /// An assistant's calls of tools: the array `tool_calls` of the OpenAI API, as JSON.
    pub tool_calls: Option<String>,
    /// The id of the call that a tool's message answers.
    pub tool_call_id: Option<String>,
    /// The name of the tool that answers.
    pub name: Option<String>,
}

impl Message {
    /// A message from its two parts, without anything about tools.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), tool_calls: None, tool_call_id: None, name: None }
    }

    /// What was said, `tool_calls` with it.
    #[must_use]
    pub fn calling(self, tool_calls: impl Into<String>) -> Self {
        Self { tool_calls: Some(tool_calls.into()), ..self }
    }

    /// What was said, as the answer to the call `tool_call_id`.
    #[must_use]
    pub fn answering(self, tool_call_id: impl Into<String>) -> Self {
        Self { tool_call_id: Some(tool_call_id.into()), ..self }
    }

    /// What was said, by the tool `name`.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The role is free text until it is parsed, so it could hold anything too.
        f.write_str("Message(..)")
    }
}

/// Who speaks. A closed set, because a role leaves the device as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions of the application.
    System,
    /// The person asking.
    User,
    /// An earlier answer.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A role outside the closed set. It does not repeat the text, which may be sensitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown role; known are system, user, assistant and tool")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        match text {
            "system" => Ok(Role::System),
            "user" => Ok(Role::User),
            "assistant" => Ok(Role::Assistant),
            "tool" => Ok(Role::Tool),
            _ => Err(UnknownRole),
        }
    }
}
