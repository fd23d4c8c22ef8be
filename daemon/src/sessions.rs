//! Conversations that remember: history and vault of each session, in memory only, bounded in number, size and
//! idle time. Owned by the asking user: one user's session is not another's.

mod sweeper;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;

use synesis_privacy::{Message, Vault};
use zeroize::Zeroize as _;

pub use sweeper::Sweeper;
pub use table::Sessions;

/// Text of one session, in bytes. Larger than any context window here, smaller than a tunnel frame.
pub const MAX_HISTORY: usize = 512 * 1024;

/// Why a session cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Its text has grown beyond what is kept.
    #[error("the session holds {bytes} bytes of conversation; {max} is the most")]
    TooLong {
        /// With this request.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// No session can make room for another one: all are being answered.
    #[error("{busy} sessions are being answered, and no other one can begin")]
    TooMany {
        /// How many.
        busy: usize,
    },
}

/// One conversation. `Debug` shows nothing of it.
#[derive(Default)]
pub struct Session {
    /// The system message, if any, and the turns so far, in clear text.
    history: Vec<Message>,
    /// What was hidden so far, under which placeholder.
    pub vault: Vault,
}

impl Session {
    /// The whole conversation with the new messages of a request. A system message of the request takes the place
    /// of the session's.
    ///
    /// # Errors
    /// When it is too long to be kept.
    pub fn with(&self, request: &[Message]) -> Result<Vec<Message>, SessionError> {
        let is_system = |message: &&Message| message.role == "system";
        let replaced = request.iter().any(|message| message.role == "system");
        let system = if replaced { request.iter() } else { self.history.iter() }.filter(is_system);
        let turns = self.history.iter().chain(request).filter(|message| !is_system(message));
        let all: Vec<Message> = system.chain(turns).cloned().collect();
        let calls = |message: &Message| message.tool_calls.as_ref().map_or(0, String::len);
        let bytes = all.iter().map(|message| message.content.len() + calls(message)).sum();
        if bytes > MAX_HISTORY {
            return Err(SessionError::TooLong { bytes, max: MAX_HISTORY });
        }
        Ok(all)
    }

    /// Remembers a finished turn: the conversation as it was asked, and its answer as the user saw it, to the letter.
    /// Only so does the next prompt begin with the tokens that the model has in its cache.
    pub fn remember(&mut self, asked: Vec<Message>, answer: &str, tool_calls: Option<&str>) {
        self.history = asked;
        let answer = Message::new("assistant", answer);
        self.history.push(match tool_calls {
            Some(calls) => answer.calling(calls),
            None => answer,
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for message in &mut self.history {
            message.content.zeroize();
            message.tool_calls.zeroize();
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(..)")
    }
}
