//! How many calls run at the same time, streams included: in all, for one user, and with a reserve that only admins
//! may use, so that no user keeps another or an admin out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Caller, Role};

/// In all.
pub(super) const AT_ONCE: usize = 256;
/// Of one user.
pub(super) const OF_ONE: usize = 64;
/// Kept free for admins.
pub(super) const RESERVE: usize = 16;

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// Everybody's are taken.
    All,
    /// The user's own are.
    Own,
}

/// The calls in progress. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct InProgress {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// Without users that have none.
    of: HashMap<u32, usize>,
}

/// The place of one call, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    uid: u32,
    calls: InProgress,
}

impl InProgress {
    /// A place for one more call.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn enter(&self, caller: &Caller) -> Result<Place, Full> {
        let most = match caller.role {
            Role::Admin => AT_ONCE,
            Role::User | Role::Guest => AT_ONCE - RESERVE,
        };
        let mut counts = self.counts();
        if counts.of.get(&caller.uid).is_some_and(|own| *own >= OF_ONE) {
            return Err(Full::Own);
        }
        if counts.all >= most {
            return Err(Full::All);
        }
        counts.all += 1;
        *counts.of.entry(caller.uid).or_default() += 1;
        Ok(Place { uid: caller.uid, calls: self.clone() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.calls.counts();
        counts.all = counts.all.saturating_sub(1);
        if let Some(own) = counts.of.get_mut(&self.uid) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                counts.of.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, role: Role) -> Caller {
        Caller { uid, gid: uid, pid: None, role }
    }

    /// As many calls of `caller` as there are places for, and why there are no more.
    fn fill(calls: &InProgress, caller: &Caller) -> (Vec<Place>, Full) {
        let mut places = Vec::new();
        loop {
            match calls.enter(caller) {
                Ok(place) => places.push(place),
                Err(full) => return (places, full),
            }
        }
    }

    #[test]
    fn one_user_cannot_keep_another_out() {
        let calls = InProgress::default();
        let (places, full) = fill(&calls, &caller(1000, Role::User));
        assert_eq!((places.len(), full), (OF_ONE, Full::Own));
        calls.enter(&caller(1001, Role::User)).unwrap();
    }

    #[test]
    fn all_users_together_cannot_keep_an_admin_out() {
        let calls = InProgress::default();
        let taken: Vec<_> = (0..8).map(|uid| fill(&calls, &caller(1000 + uid, Role::User)).0).collect();
        assert_eq!(taken.iter().map(Vec::len).sum::<usize>(), AT_ONCE - RESERVE);
        assert_eq!(calls.enter(&caller(2000, Role::Guest)).err(), Some(Full::All));
        let (reserve, full) = fill(&calls, &caller(0, Role::Admin));
        assert_eq!((reserve.len(), full), (RESERVE, Full::All));
    }

    #[test]
    fn a_place_is_free_again_when_its_call_is_gone_and_nothing_is_remembered() {
        let calls = InProgress::default();
        let (mut places, _) = fill(&calls, &caller(1000, Role::User));
        places.pop();
        places.push(calls.enter(&caller(1000, Role::User)).unwrap());
        drop(places);
        let counts = calls.counts();
        assert!(counts.all == 0 && counts.of.is_empty(), "{counts:?}");
    }
}
