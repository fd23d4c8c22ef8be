//! Conversations that remember: history and vault of each session, in memory only, bounded in number, size and
//! idle time. Owned by the asking user: one user's session is not another's.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use synesis_privacy::{Message, Vault};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

/// Sessions kept at the same time; the one idle for longest makes room.
const MAX_SESSIONS: usize = 64;
/// A session idle for longer is forgotten.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// Text of one session, in bytes. Larger than any context window here, smaller than a tunnel frame.
const MAX_HISTORY: usize = 512 * 1024;

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
        let bytes = all.iter().map(|message| message.content.len()).sum();
        if bytes > MAX_HISTORY {
            return Err(SessionError::TooLong { bytes, max: MAX_HISTORY });
        }
        Ok(all)
    }

    /// Remembers a finished turn: the conversation as it was asked, and its answer as the user saw it.
    pub fn remember(&mut self, asked: Vec<Message>, answer: &str) {
        self.history = asked;
        self.history.push(Message::new("assistant", answer));
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(..)")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    uid: u32,
    name: String,
}

#[derive(Debug)]
struct Slot {
    session: Arc<tokio::sync::Mutex<Session>>,
    used: Instant,
}

/// All sessions.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    slots: Arc<Mutex<HashMap<Key, Slot>>>,
}

impl Sessions {
    /// The session `name` of user `uid`, made when it is new, locked until the turn ends: two requests of one
    /// session take turns. An empty name is a session of its own, forgotten with the guard.
    pub async fn enter(&self, uid: u32, name: &str) -> OwnedMutexGuard<Session> {
        if name.is_empty() {
            return Arc::new(tokio::sync::Mutex::new(Session::default())).lock_owned().await;
        }
        self.slot(Key { uid, name: name.to_owned() }).lock_owned().await
    }

    fn slot(&self, key: Key) -> Arc<tokio::sync::Mutex<Session>> {
        let now = Instant::now();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| now.duration_since(slot.used) < IDLE || in_use(slot));
        if !slots.contains_key(&key) && slots.len() >= MAX_SESSIONS {
            let oldest = slots.iter().filter(|(_, slot)| !in_use(slot)).min_by_key(|(_, slot)| slot.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                slots.remove(&oldest);
            }
        }
        let slot = slots.entry(key).or_insert_with(|| Slot { session: Arc::default(), used: now });
        slot.used = now;
        Arc::clone(&slot.session)
    }
}

/// A turn of it is running.
fn in_use(slot: &Slot) -> bool {
    Arc::strong_count(&slot.session) > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Vec<Message> {
        vec![Message::new("user", text)]
    }

    fn contents(messages: &[Message]) -> Vec<&str> {
        messages.iter().map(|message| message.content.as_str()).collect()
    }

    #[tokio::test]
    async fn a_session_remembers_its_turns_and_belongs_to_its_user() {
        let sessions = Sessions::default();
        {
            let mut session = sessions.enter(1000, "s").await;
            let asked = session.with(&user("one")).unwrap();
            session.remember(asked, "1");
        }
        let mine = sessions.enter(1000, "s").await;
        assert_eq!(contents(&mine.with(&user("two")).unwrap()), ["one", "1", "two"]);
        let theirs = sessions.enter(1001, "s").await;
        assert_eq!(contents(&theirs.with(&user("two")).unwrap()), ["two"]);
    }

    #[tokio::test]
    async fn a_turn_that_failed_leaves_no_trace() {
        let sessions = Sessions::default();
        let asked = sessions.enter(0, "s").await.with(&user("lost")).unwrap();
        assert_eq!(asked.len(), 1);
        assert_eq!(contents(&sessions.enter(0, "s").await.with(&user("next")).unwrap()), ["next"]);
    }

    #[tokio::test]
    async fn a_new_system_message_replaces_the_old_one() {
        let mut session = Session::default();
        let asked = session.with(&[Message::new("system", "be brief"), Message::new("user", "a")]).unwrap();
        session.remember(asked, "b");
        assert_eq!(contents(&session.with(&user("c")).unwrap()), ["be brief", "a", "b", "c"]);
        let changed = session.with(&[Message::new("system", "be long"), Message::new("user", "c")]).unwrap();
        assert_eq!(contents(&changed), ["be long", "a", "b", "c"]);
    }

    #[tokio::test]
    async fn without_a_name_nothing_is_kept() {
        let sessions = Sessions::default();
        sessions.enter(0, "").await.remember(user("a"), "b");
        assert!(sessions.enter(0, "").await.with(&[]).unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_conversation_that_is_too_long_is_an_error_that_says_how_long() {
        let long = "x".repeat(MAX_HISTORY + 1);
        let error = Session::default().with(&user(&long)).unwrap_err();
        assert_eq!(error, SessionError::TooLong { bytes: MAX_HISTORY + 1, max: MAX_HISTORY });
    }

    #[tokio::test(start_paused = true)]
    async fn idle_sessions_are_forgotten_and_the_oldest_makes_room() {
        let sessions = Sessions::default();
        sessions.enter(0, "old").await.remember(user("a"), "b");
        tokio::time::advance(IDLE).await;
        assert!(sessions.enter(0, "old").await.with(&[]).unwrap().is_empty());

        sessions.enter(0, "first").await.remember(user("a"), "b");
        for n in 0..MAX_SESSIONS {
            tokio::time::advance(Duration::from_millis(1)).await;
            drop(sessions.enter(0, &format!("s{n}")).await);
        }
        assert!(sessions.enter(0, "first").await.with(&[]).unwrap().is_empty());
        assert!(sessions.slots.lock().unwrap().len() <= MAX_SESSIONS);
    }

    #[test]
    fn a_session_never_prints() {
        let mut session = Session::default();
        session.remember(user("secret"), "secret");
        assert_eq!(format!("{session:?}"), "Session(..)");
    }
}
