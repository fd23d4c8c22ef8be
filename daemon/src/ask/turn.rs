//! One turn of a conversation: the locked session and everything said so far, and what of it may leave the device.

use std::sync::Arc;

use synesis_privacy::{Message, Policy, RedactError, Redacted, RedactedJson, Restorer, Vault};
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

/// What leaves with the conversation.
#[derive(Default)]
pub(super) struct Beside {
    pub(super) stop: Vec<String>,
    /// Definitions of tools, as JSON.
    pub(super) tools: Option<String>,
    pub(super) json_schema: Option<String>,
}

/// What may leave.
pub(super) struct Hidden {
    pub(super) messages: Redacted,
    pub(super) stop: Redacted,
    pub(super) tools: Option<RedactedJson>,
    pub(super) json_schema: Option<RedactedJson>,
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
    pub(super) fn end(mut self, answer: &str, tool_calls: Option<&str>) {
        self.session.remember(self.messages, answer, tool_calls);
    }

    /// Hides what must not leave, in the conversation and in what is `beside` it. The turn comes back with it, or with
    /// the reason why nothing may leave.
    ///
    /// # Errors
    /// The rules panicked, and the turn is lost.
    pub(super) async fn hide(
        mut self,
        policy: &Arc<Policy>,
        beside: Beside,
    ) -> Result<(Self, Result<Hidden, RedactError>), AskError> {
        let said =
            |message: &Message| message.content.len() + message.tool_calls.as_ref().map_or(0, String::len);
        let json = [&beside.tools, &beside.json_schema].into_iter().flatten();
        let bytes = self.messages.iter().map(said).sum::<usize>()
            + beside.stop.iter().chain(json).map(String::len).sum::<usize>();
        if bytes <= ON_THE_LOOP {
            let hidden = self.redact(policy, &beside);
            return Ok((self, hidden));
        }
        let policy = Arc::clone(policy);
        let hiding = tokio::task::spawn_blocking(move || {
            let hidden = self.redact(&policy, &beside);
            (self, hidden)
        });
        // Rules that panic are not usable.
        hiding.await.map_err(|_| AskError::rules_unusable())
    }

    /// All of it leaves the device. A value that is found in one part is hidden in all of them, which is why what is
    /// beside the messages comes first; one that is found only in the messages is hidden in it, which is why it comes
    /// again.
    fn redact(&mut self, policy: &Policy, beside: &Beside) -> Result<Hidden, RedactError> {
        let vault = &mut self.session.vault;
        let stop: Vec<Message> = beside.stop.iter().map(|text| Message::new("user", text)).collect();
        let json = |json: &Option<String>, vault: &mut Vault| {
            json.as_ref().map(|json| policy.redact_json(json, vault)).transpose()
        };
        policy.redact(&stop, vault)?;
        json(&beside.tools, vault)?;
        json(&beside.json_schema, vault)?;
        let messages = policy.redact(&self.messages, vault)?;
        let stop = policy.redact(&stop, vault)?;
        let (tools, json_schema) = (json(&beside.tools, vault)?, json(&beside.json_schema, vault)?);
        Ok(Hidden { messages, stop, tools, json_schema, restorer: vault.restorer() })
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

    async fn hidden(turn: Turn, policy: &Arc<Policy>, beside: Beside) -> Hidden {
        turn.hide(policy, beside).await.unwrap().1.unwrap()
    }

    #[tokio::test]
    async fn a_turn_that_cannot_be_redacted_comes_back() {
        let policy = Arc::new(Policy::standard().unwrap());
        let beside = Beside { tools: Some("no json".to_owned()), ..Beside::default() };
        let (turn, hidden) = turn(&Sessions::default(), "hello").await.hide(&policy, beside).await.unwrap();
        assert!(hidden.is_err());
        assert_eq!(turn.messages.len(), 1, "for the local model");
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
            let hidden = hidden(turn, &policy, Beside { stop: vec![stop], ..Beside::default() }).await;
            for redacted in [&hidden.messages, &hidden.stop] {
                let content = redacted.messages()[0].content();
                assert!(!content.contains(secret), "{content}");
            }
        }
    }

    #[tokio::test]
    async fn a_value_found_in_any_part_is_hidden_in_all_of_them() {
        let policy = Arc::new(Policy::standard().unwrap());
        let secret = "hunter2hunter2";
        let (named, bare) = (format!("password: {secret}"), format!("say {secret} twice"));
        for place in 0..3 {
            let text = |at| if at == place { named.clone() } else { bare.clone() };
            let json = |at| Some(format!("[{:?}]", text(at)));
            let beside = Beside { stop: Vec::new(), tools: json(1), json_schema: json(2) };
            let hidden = hidden(turn(&Sessions::default(), &text(0)).await, &policy, beside).await;
            let json = [hidden.tools.unwrap(), hidden.json_schema.unwrap()];
            for text in [hidden.messages.messages()[0].content(), json[0].text(), json[1].text()] {
                assert!(!text.contains(secret), "named in {place}: {text}");
            }
        }
    }

    #[test]
    fn an_ask_given_up_while_a_long_conversation_is_redacted_leaves_the_session_its_vault() {
        // One thread for what blocks: while it is kept busy, the redaction has certainly not happened yet.
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let policy = Arc::new(Policy::standard().unwrap());
            let sessions = Sessions::default();
            let first = turn(&sessions, "mail ann@example.org").await;
            first.hide(&policy, Beside::default()).await.unwrap().0.end("done", None);

            let long = format!("mail bob@example.org {}", "word ".repeat(ON_THE_LOOP / 5));
            let (go_on, held) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || held.recv());
            {
                let mut given_up =
                    std::pin::pin!(turn(&sessions, &long).await.hide(&policy, Beside::default()));
                let polled = given_up.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(polled.is_pending(), "it is redacted elsewhere");
            }
            go_on.send(()).unwrap();
            busy.await.unwrap().unwrap();
            let next = turn(&sessions, "and?").await;
            assert_eq!(next.session.vault.len(), 2, "both addresses are known");
            assert_eq!(next.messages.len(), 3, "the turn given up is not remembered");
            let hidden = hidden(turn(&Sessions::default(), &long).await, &policy, Beside::default()).await;
            assert!(!hidden.messages.messages()[0].content().contains("bob@"));
        });
    }
}
