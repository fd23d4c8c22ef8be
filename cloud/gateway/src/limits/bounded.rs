//! A table that never holds more than it was made for. Two halves: what is used moves to the young one, and when that
//! is full the old one is forgotten as a whole. So the least recently used go first, without a list to keep.

use std::collections::HashMap;
use std::hash::Hash;

/// At most `2 * half` entries.
#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V: Default> Bounded<K, V> {
    /// A table of at most so many entries, and at least two.
    pub(crate) fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (most / 2).max(1) }
    }

    /// The entry of `key`, made when it is not there, for whose sake others may be forgotten.
    pub(crate) fn entry(&mut self, key: K) -> &mut V {
        if !self.young.contains_key(&key) && self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        let old = &mut self.old;
        match self.young.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let value = old.remove(entry.key()).unwrap_or_default();
                entry.insert(value)
            }
        }
    }

    /// The entry of `key`, if there is one.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bounds_whatever_comes() {
        let mut table: Bounded<u32, u32> = Bounded::new(100);
        for key in 0..1_000_000 {
            *table.entry(key) = key;
            assert!(table.len() <= 100);
        }
        assert!(table.young.capacity() + table.old.capacity() < 1000);
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut table: Bounded<u32, u32> = Bounded::new(10);
        *table.entry(0) = 7;
        for key in 1..1000 {
            table.entry(key);
            if key % 3 == 0 {
                table.entry(0);
            }
        }
        assert_eq!(table.get(&0), Some(&7));
        assert_eq!(table.get(&1), None);
    }
}
