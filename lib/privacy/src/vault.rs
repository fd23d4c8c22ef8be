//! What was taken out of a session's texts, in memory only: value to placeholder and back. Never serialized;
//! every value is wiped when the last holder lets go of it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::StdRng;
use zeroize::Zeroizing;

use crate::kind::Kind;
use crate::placeholder::{self, MAX_NUMBER_LEN, NUMBER_LEN};
use crate::restore::Restorer;

/// A session holds at most this many different values; a request that needs more is not sent.
const MAX_VALUES: usize = 1 << 17;
/// Draws at one length before the next one is tried.
const DRAWS: usize = 16;

/// The vault cannot take another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session holds too many redacted values")]
pub struct VaultFull;

/// A value and the kind it was first seen as.
pub(crate) struct Entry {
    pub(crate) value: Zeroizing<String>,
    pub(crate) kind: Kind,
    pub(crate) placeholder: String,
}

/// Placeholders in upper case to their values.
pub(crate) type Values = HashMap<String, Arc<Entry>>;

/// The values of one session. The same value keeps the same placeholder for the vault's life.
pub struct Vault {
    rng: StdRng,
    /// Keyed by a hash of the value, so that the map's keys need no wiping; the entries settle collisions.
    by_value: HashMap<u64, Vec<Arc<Entry>>>,
    hasher: RandomState,
    /// Shared with restorers; copied only when a value is added while a restorer lives.
    by_placeholder: Arc<Values>,
}

impl Vault {
    /// An empty vault whose placeholders are numbered by the operating system's randomness.
    pub fn new() -> Self {
        Self::with_rng(StdRng::from_rng(&mut rand::rng()))
    }

    /// An empty vault with predictable placeholders, for tests.
    pub fn with_seed(seed: u64) -> Self {
        Self::with_rng(StdRng::seed_from_u64(seed))
    }

    fn with_rng(rng: StdRng) -> Self {
        Self { rng, by_value: HashMap::new(), hasher: RandomState::new(), by_placeholder: Arc::default() }
    }

    /// How many different values it holds.
    pub fn len(&self) -> usize {
        self.by_placeholder.len()
    }

    /// Whether nothing was redacted yet.
    pub fn is_empty(&self) -> bool {
        self.by_placeholder.is_empty()
    }

    /// Restores answers to what was redacted so far. Values added later are unknown to it.
    pub fn restorer(&self) -> Restorer {
        Restorer::new(Arc::clone(&self.by_placeholder))
    }

    /// The placeholder of `value`: the one it has, else a new one named after `kind`.
    pub(crate) fn placeholder(&mut self, value: &str, kind: Kind) -> Result<&str, VaultFull> {
        let hash = self.hasher.hash_one(value);
        let found = self.position(hash, value);
        let at = match found {
            Some(at) => at,
            None => {
                let entry = Arc::new(Entry {
                    value: Zeroizing::new(value.to_owned()),
                    kind,
                    placeholder: self.unused(kind)?,
                });
                Arc::make_mut(&mut self.by_placeholder).insert(entry.placeholder.clone(), Arc::clone(&entry));
                let bucket = self.by_value.entry(hash).or_default();
                bucket.push(entry);
                bucket.len() - 1
            }
        };
        self.by_value
            .get(&hash)
            .and_then(|bucket| bucket.get(at))
            .map(|e| e.placeholder.as_str())
            .ok_or(VaultFull)
    }

    /// Every value held, in no order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.by_placeholder.values().map(Arc::as_ref)
    }

    fn position(&self, hash: u64, value: &str) -> Option<usize> {
        self.by_value.get(&hash)?.iter().position(|entry| entry.value.as_str() == value)
    }

    fn unused(&mut self, kind: Kind) -> Result<String, VaultFull> {
        if self.len() >= MAX_VALUES {
            return Err(VaultFull);
        }
        for len in NUMBER_LEN..=MAX_NUMBER_LEN {
            for _ in 0..DRAWS {
                let text = placeholder::invent(kind, len, &mut self.rng);
                if !self.by_placeholder.contains_key(&text) {
                    return Ok(text);
                }
            }
        }
        Err(VaultFull)
    }
}

impl Default for Vault {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_value_keeps_its_placeholder_whatever_it_is_seen_as() {
        let mut vault = Vault::with_seed(7);
        let first = vault.placeholder("hunter22", Kind::Password).unwrap().to_owned();
        for n in 0..1_000 {
            vault.placeholder(&format!("user{n}@example.org"), Kind::Email).unwrap();
        }
        assert_eq!(vault.placeholder("hunter22", Kind::GenericSecret).unwrap(), first);
        assert_eq!(vault.len(), 1_001);
    }

    #[test]
    fn neighbouring_values_do_not_get_neighbouring_numbers() {
        let mut vault = Vault::with_seed(7);
        let a = vault.placeholder("a", Kind::Email).unwrap().to_owned();
        let b = vault.placeholder("b", Kind::Email).unwrap().to_owned();
        let differing = a.bytes().zip(b.bytes()).filter(|(x, y)| x != y).count();
        assert!(differing > 1, "{a} {b}");
    }

    #[test]
    fn debug_shows_nothing() {
        let mut vault = Vault::with_seed(7);
        vault.placeholder("hunter22", Kind::Password).unwrap();
        assert_eq!(format!("{vault:?}"), "Vault(..)");
    }
}
