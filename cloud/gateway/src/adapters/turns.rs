//! One writer for each file: who receives, lists or deletes it has its turn.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::control_plane::AdapterDigest;

type Key = (String, AdapterDigest);

/// Who has a turn, and who waits.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<Key, Known>>>);

/// A slot, and how many wait at it or have its turn.
#[derive(Default)]
struct Known {
    interested: usize,
    slot: Arc<Slot>,
}

/// One file.
#[derive(Default)]
struct Slot {
    turn: Arc<AsyncMutex<()>>,
    holder: Mutex<Option<(Uuid, CancellationToken)>>,
}

impl Turns {
    /// Waits for the turn at a file. A holder for the same device is asked to leave: a device has one stream for a file,
    /// so the other one belongs to a connection that is gone.
    pub(super) async fn take(&self, account: &str, digest: &AdapterDigest, device: Uuid) -> Turn {
        let waiting = self.wait_at((account.to_owned(), digest.clone()));
        if let Some((holder, leave)) = &*locked(&waiting.slot.holder)
            && *holder == device
        {
            leave.cancel();
        }
        let guard = Arc::clone(&waiting.slot.turn).lock_owned().await;
        Turn::begin(waiting, guard, device)
    }

    /// The turn at a file that nobody has; none when somebody does.
    pub(super) fn try_take(&self, account: &str, digest: &AdapterDigest) -> Option<Turn> {
        let waiting = self.wait_at((account.to_owned(), digest.clone()));
        let guard = Arc::clone(&waiting.slot.turn).try_lock_owned().ok()?;
        Some(Turn::begin(waiting, guard, Uuid::nil()))
    }

    fn wait_at(&self, key: Key) -> Waiting {
        let mut slots = locked(&self.0);
        let known = slots.entry(key.clone()).or_default();
        known.interested += 1;
        let slot = Arc::clone(&known.slot);
        drop(slots);
        Waiting { turns: self.clone(), key, slot }
    }

    #[cfg(test)]
    pub(super) fn open(&self) -> usize {
        locked(&self.0).len()
    }
}

/// Keeps a slot known while somebody waits at it or has its turn.
struct Waiting {
    turns: Turns,
    key: Key,
    slot: Arc<Slot>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut slots = locked(&self.turns.0);
        if let Some(known) = slots.get_mut(&self.key) {
            known.interested -= 1;
            if known.interested == 0 {
                slots.remove(&self.key);
            }
        }
    }
}

/// The right to change one file.
pub(super) struct Turn {
    leave: CancellationToken,
    // Before the slot is given up, the next one has its turn.
    _guard: OwnedMutexGuard<()>,
    waiting: Waiting,
}

impl Turn {
    fn begin(waiting: Waiting, guard: OwnedMutexGuard<()>, device: Uuid) -> Self {
        let leave = CancellationToken::new();
        *locked(&waiting.slot.holder) = Some((device, leave.clone()));
        Self { leave, _guard: guard, waiting }
    }

    /// Whose file it is.
    pub(super) fn account(&self) -> &str {
        &self.waiting.key.0
    }

    /// Runs `work`, which blocks. The turn goes with it, so that the file stays this holder's until the work has ended,
    /// also when nobody waits for that any more.
    pub(super) async fn during<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<(Self, T)> {
        let done = tokio::task::spawn_blocking(move || {
            let outcome = work();
            (self, outcome)
        });
        done.await.map_err(io::Error::other)
    }

    /// Resolves when the holder should leave.
    pub(super) fn left(&self) -> impl Future<Output = ()> + Send + 'static {
        self.leave.clone().cancelled_owned()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *locked(&self.waiting.slot.holder) = None;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> AdapterDigest {
        AdapterDigest::parse(&"ab".repeat(32)).unwrap()
    }

    #[tokio::test]
    async fn the_same_device_takes_over_and_another_one_waits() {
        let (turns, digest) = (Turns::default(), digest());
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = turns.take("a", &digest, one).await;
        assert!(turns.try_take("a", &digest).is_none());
        let mut other = std::pin::pin!(turns.take("a", &digest, two));
        assert!(futures_util::poll!(&mut other).is_pending());
        let mut left = std::pin::pin!(first.left());
        assert!(futures_util::poll!(&mut left).is_pending());
        let mut again = std::pin::pin!(turns.take("a", &digest, one));
        assert!(futures_util::poll!(&mut again).is_pending());
        left.await;
        drop(first);
        drop(other.await);
        drop(again.await);
        assert_eq!(turns.open(), 0, "nothing is remembered of turns that are over");
    }

    #[tokio::test]
    async fn work_keeps_the_turn_until_it_has_ended_also_when_nobody_waits_for_it() {
        let turns = Turns::default();
        let (begun, is_begun) = tokio::sync::oneshot::channel();
        let (end, until) = std::sync::mpsc::channel::<()>();
        let first = turns.take("a", &digest(), Uuid::from_u128(1)).await;
        let work = first.during(move || {
            begun.send(()).unwrap();
            until.recv().unwrap();
        });
        tokio::select! {
            biased;
            _ = work => panic!("it was not told to end"),
            begun = is_begun => begun.unwrap(),
        }
        assert!(turns.try_take("a", &digest()).is_none(), "the work goes on");
        end.send(()).unwrap();
        drop(turns.take("a", &digest(), Uuid::from_u128(2)).await);
        assert_eq!(turns.open(), 0);
    }

    #[tokio::test]
    async fn files_of_two_accounts_have_nothing_to_do_with_each_other() {
        let turns = Turns::default();
        let _first = turns.take("a", &digest(), Uuid::from_u128(1)).await;
        assert!(turns.try_take("b", &digest()).is_some());
        assert_eq!(turns.open(), 1);
    }
}
