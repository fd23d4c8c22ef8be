//! Counters that differ in one label.

use synesis_mesh::gateway::Counter;

/// What a word that is not in the list counts as.
const OTHER: &str = "other";

/// One counter for each of a list of words.
#[derive(Debug)]
pub(crate) struct Family(Vec<(&'static str, Counter)>);

impl Family {
    pub(crate) fn new(words: impl IntoIterator<Item = &'static str>) -> Self {
        Self(words.into_iter().chain([OTHER]).map(|word| (word, Counter::default())).collect())
    }

    /// One more of `word`.
    pub(crate) fn count(&self, word: &'static str) {
        let known = self.0.iter().find(|(known, _)| *known == word).or(self.0.last());
        if let Some((_, counter)) = known {
            counter.count();
        }
    }

    /// How many of `word`.
    pub(crate) fn value(&self, word: &str) -> u64 {
        self.0.iter().find(|(known, _)| *known == word).map_or(0, |(_, counter)| counter.value())
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(word, counter)| (*word, counter.value()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_nobody_listed_is_counted_all_the_same() {
        let family = Family::new(["one", "two"]);
        for word in ["one", "two", "two", "three", "four"] {
            family.count(word);
        }
        assert_eq!(family.values().collect::<Vec<_>>(), [("one", 1), ("two", 2), ("other", 2)]);
        assert_eq!(family.value("two"), 2);
    }
}
