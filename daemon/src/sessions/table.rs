//! Which sessions there are, and which one makes room for a new one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::{Session, SessionError};

/// Sessions kept at the same time; beyond it the one idle for longest makes room, whoever's it is.
pub(super) const MAX_SESSIONS: usize = 64;
/// Sessions of one user; beyond it that user's own make room, so that nobody can push out everybody else's.
pub(super) const MAX_OF_ONE: usize = 16;
/// A session idle for longer is forgotten.
pub(super) const IDLE: Duration = Duration::from_secs(60 * 60);

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

impl Slot {
    /// A turn of it is running.
    fn in_use(&self) -> bool {
        Arc::strong_count(&self.session) > 1
    }

    fn is_idle(&self, now: Instant) -> bool {
        now.duration_since(self.used) >= IDLE && !self.in_use()
    }
}

/// All sessions. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    slots: Arc<Mutex<HashMap<Key, Slot>>>,
}

impl Sessions {
    /// The session `name` of user `uid`, made when it is new, locked until the turn ends: two requests of one
    /// session take turns. An empty name is a session of its own, forgotten with the guard.
    ///
    /// # Errors
    /// When it is new, and there are too many that are all being answered.
    pub async fn enter(&self, uid: u32, name: &str) -> Result<OwnedMutexGuard<Session>, SessionError> {
        let session = match name {
            "" => Arc::default(),
            name => self.slot(Key { uid, name: name.to_owned() })?,
        };
        Ok(session.lock_owned().await)
    }

    /// The same, if there is one: makes none, uses none, forgets none.
    pub async fn look(&self, uid: u32, name: &str) -> Option<OwnedMutexGuard<Session>> {
        let session = {
            let (slots, key) = (self.slots(), Key { uid, name: name.to_owned() });
            let slot = slots.get(&key).filter(|slot| !slot.is_idle(Instant::now()))?;
            Arc::clone(&slot.session)
        };
        Some(session.lock_owned().await)
    }

    /// Forgets the sessions that are idle for too long.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.slots().retain(|_, slot| !slot.is_idle(now));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots().len()
    }

    fn slot(&self, key: Key) -> Result<Arc<tokio::sync::Mutex<Session>>, SessionError> {
        self.sweep();
        let (now, mut slots) = (Instant::now(), self.slots());
        if !slots.contains_key(&key) {
            make_room(&mut slots, key.uid)?;
        }
        let slot = slots.entry(key).or_insert_with(|| Slot { session: Arc::default(), used: now });
        slot.used = now;
        Ok(Arc::clone(&slot.session))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one more session of `uid`.
fn make_room(slots: &mut HashMap<Key, Slot>, uid: u32) -> Result<(), SessionError> {
    let own = slots.keys().filter(|key| key.uid == uid).count();
    let evicted = |key: &Key| own < MAX_OF_ONE || key.uid == uid;
    if own < MAX_OF_ONE && slots.len() < MAX_SESSIONS {
        return Ok(());
    }
    let idle = slots.iter().filter(|(key, slot)| evicted(key) && !slot.in_use());
    let Some(longest) = idle.min_by_key(|(_, slot)| slot.used).map(|(key, _)| key.clone()) else {
        let busy = slots.keys().filter(|key| evicted(key)).count();
        return Err(SessionError::TooMany { busy });
    };
    slots.remove(&longest);
    Ok(())
}
