//! How the prompts of this device usually begin: the system messages asked most recently. A swap computes them for the
//! new adapter before it answers. In memory only, because they are what users wrote.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use synesis_proto::runtime::v1::{Chat, ChatMessage};

/// System messages that are remembered.
const MOST: usize = 3;
/// Bytes of one; computing a longer one would keep the model from answering for seconds.
const LONGEST: usize = 4096;
/// Stands for what a user says next. A template may put the system message into the user's turn, so there is one; and
/// a chat without any text is refused.
const NEXT: &str = ".";

/// How a prompt begins: with a system message, or with none. Its text is not shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Head(Option<String>);

/// The list. See the module's first sentence.
#[derive(Default)]
pub(super) struct Heads {
    /// Most recent first.
    recent: Mutex<VecDeque<String>>,
}

impl Heads {
    /// A prompt began with this system message.
    pub(super) fn asked(&self, system: &str) {
        if system.is_empty() || system.len() > LONGEST {
            return;
        }
        let mut recent = self.lock();
        match recent.iter().position(|known| known == system) {
            Some(0) => {}
            Some(at) => recent.make_contiguous()[..=at].rotate_right(1),
            None => {
                recent.truncate(MOST - 1);
                recent.push_front(system.to_owned());
            }
        }
    }

    /// The likeliest first; the last is that of the template without a system message.
    pub(super) fn likely(&self) -> Vec<Head> {
        let recent = self.lock();
        recent.iter().map(|system| Head(Some(system.clone()))).chain([Head(None)]).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heads(..)")
    }
}

impl Head {
    /// The conversation to warm.
    pub(super) fn chat(&self) -> Chat {
        let message = |role: &str, content: &str| ChatMessage {
            role: role.to_owned(),
            content: content.to_owned(),
            ..ChatMessage::default()
        };
        let system = self.0.as_ref().map(|system| message("system", system));
        Chat { messages: system.into_iter().chain([message("user", NEXT)]).collect(), ..Chat::default() }
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Head(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn systems(heads: &Heads) -> Vec<String> {
        let first = |head: Head| head.chat().messages[0].content.clone();
        heads.likely().into_iter().map(first).collect()
    }

    #[test]
    fn the_most_recent_heads_are_kept_and_the_templates_own_comes_last() {
        let heads = Heads::default();
        assert_eq!(systems(&heads), [NEXT]);
        for system in ["a", "b", "c", "a", "a", "d"] {
            heads.asked(system);
        }
        assert_eq!(systems(&heads), ["d", "a", "c", NEXT]);
        heads.asked("c");
        assert_eq!(systems(&heads), ["c", "d", "a", NEXT]);
    }

    #[test]
    fn what_would_take_long_to_compute_is_not_kept_and_nothing_is_shown() {
        let heads = Heads::default();
        heads.asked("");
        heads.asked(&"x".repeat(LONGEST + 1));
        assert_eq!(systems(&heads), [NEXT]);
        heads.asked("secret");
        assert_eq!(format!("{heads:?} {:?}", heads.likely()), "Heads(..) [Head(..), Head(..)]");
    }
}
