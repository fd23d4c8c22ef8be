//! One turn of a conversation: the locked session and everything said so far, and what of it may leave the device.

use std::sync::Arc;

use synesis_privacy::{Message, Policy, RedactError, Redacted, Restorer};
use tokio::sync::OwnedMutexGuard;

use super::AskError;
use crate::sessions::Session;

/// Longer conversations, in bytes, are redacted on a thread of their own: others are being answered meanwhile.
const ON_THE_LOOP: usize = 64 * 1024;

/// A session, locked until the turn ends.
#[derive(Debug)]
pub(super) struct Turn {
    /// Goes wherever its vault goes: an ask that is given up lets go of the session only with the vault in it.
    session: OwnedMutexGuard<Session>,
    /// The conversation with the new messages.
    pub(super) messages: Vec<Message>,
}

/// What may leave.
pub(super) struct Hidden {
    pub(super) messages: Redacted,
    pub(super) stop: Redacted,
    pub(super) restorer: Restorer,
}

impl Turn {
    /// The next turn of `session`.
    ///
    /// # Errors
    /// When the conversation is too long.
    pub(super) fn begin(session: OwnedMutexGuard<Session>, request: &[Message]) -> Result<Self, AskError> {
        let messages = session.with(request)?;
        Ok(Self { session, messages })
    }

    /// Remembers the turn and its answer, and lets go of the session.
    pub(super) fn end(mut self, answer: &str) {
        self.session.remember(self.messages, answer);
    }

    /// Hides what must not leave, in the conversation and in the `stop` texts.
    ///
    /// # Errors
    /// When that is not possible; then nothing may leave.
    pub(super) async fn hide(
        mut self,
        policy: &Arc<Policy>,
        stop: &[String],
    ) -> Result<(Self, Hidden), AskError> {
        let stop: Vec<Message> = stop.iter().map(|text| Message::new("user", text)).collect();
        let bytes: usize = self.messages.iter().chain(&stop).map(|message| message.content.len()).sum();
        if bytes <= ON_THE_LOOP {
            let hidden = self.redact(policy, &stop)?;
            return Ok((self, hidden));
        }
        let policy = Arc::clone(policy);
        let hiding = tokio::task::spawn_blocking(move || {
            let hidden = self.redact(&policy, &stop)?;
            Ok((self, hidden))
        });
        // Rules that panic are not usable.
        hiding.await.map_err(|_| AskError::rules_unusable())?
    }

    /// The stop texts leave the device too. A value that is found only in them is hidden in the messages, which is why
    /// they come first; one that is found only in the messages is hidden in them, which is why they come again.
    fn redact(&mut self, policy: &Policy, stop: &[Message]) -> Result<Hidden, RedactError> {
        let vault = &mut self.session.vault;
        policy.redact(stop, vault)?;
        let messages = policy.redact(&self.messages, vault)?;
        let stop = policy.redact(stop, vault)?;
        Ok(Hidden { messages, stop, restorer: vault.restorer() })
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::sessions::Sessions;

    fn said(text: String) -> [Message; 1] {
        [Message::new("user", text)]
    }

    async fn turn(sessions: &Sessions, text: &str) -> Turn {
        Turn::begin(sessions.enter(0, "s").await.unwrap(), &said(text.to_owned())).unwrap()
    }

    #[tokio::test]
    async fn a_value_found_in_a_stop_text_is_hidden_in_the_messages_and_the_other_way_round() {
        let policy = Arc::new(Policy::standard().unwrap());
        let (sessions, secret) = (Sessions::default(), "hunter2hunter2");
        for (text, stop) in [
            (format!("say {secret} twice"), format!("password: {secret}")),
            (format!("password: {secret}"), format!("say {secret} twice")),
        ] {
            let turn = turn(&sessions, &text).await;
            let (_, hidden) = turn.hide(&policy, &[stop]).await.unwrap();
            for redacted in [&hidden.messages, &hidden.stop] {
                let content = redacted.messages()[0].content();
                assert!(!content.contains(secret), "{content}");
            }
        }
    }

    #[tokio::test]
    async fn an_ask_given_up_while_a_long_conversation_is_redacted_leaves_the_session_its_vault() {
        let policy = Arc::new(Policy::standard().unwrap());
        let sessions = Sessions::default();
        let first = turn(&sessions, "mail ann@example.org").await;
        first.hide(&policy, &[]).await.unwrap().0.end("done");

        let long = format!("mail bob@example.org {}", "word ".repeat(ON_THE_LOOP / 5));
        {
            let mut given_up = std::pin::pin!(turn(&sessions, &long).await.hide(&policy, &[]));
            let polled = given_up.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending(), "it is redacted elsewhere");
        }
        let next = turn(&sessions, "and?").await;
        assert_eq!(next.session.vault.len(), 2, "both addresses are known");
        assert_eq!(next.messages.len(), 3, "the turn given up is not remembered");
        let (_, hidden) = turn(&Sessions::default(), &long).await.hide(&policy, &[]).await.unwrap();
        assert!(!hidden.messages.messages()[0].content().contains("bob@"));
    }
}
