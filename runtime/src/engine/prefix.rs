//! What has been computed already: where a new request finds the longest beginning of its prompt, and the
//! beginnings that are kept outside of the sequences.

use super::variant::Variant;

/// Copying a sequence costs about as much as computing some tokens; shorter gains are not worth it.
pub(super) const WORTH_COPYING: usize = 32;

/// Length of the common beginning.
pub(super) fn common<T: PartialEq>(left: &[T], right: &[T]) -> usize {
    left.iter().zip(right).take_while(|(one, other)| one == other).count()
}

/// A sequence as far as choosing goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a, T> {
    pub(super) variant: &'a Variant,
    /// What its cache stands for.
    pub(super) tokens: &'a [T],
    pub(super) occupancy: Occupancy,
}

/// Whether a sequence can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occupancy {
    Busy,
    /// Since that moment of the session's clock.
    Idle(u64),
}

/// Where a request goes, and where its beginning comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// The sequence it takes.
    pub(super) sequence: usize,
    pub(super) source: Source,
}

/// The longest known beginning, and how many of the tokens it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Nothing,
    /// The taken sequence itself.
    Own(usize),
    /// Another sequence.
    Sequence(usize, usize),
    /// An entry of the [`PrefixCache`].
    Saved(usize, usize),
}

/// Chooses for a request of `variant` whose `tokens` may be reused; `None` when every sequence is busy.
pub(super) fn plan<T: PartialEq, S>(
    variant: &Variant,
    tokens: &[T],
    sequences: &[Candidate<'_, T>],
    saved: &PrefixCache<T, S>,
) -> Option<Plan> {
    let matches = |candidate: &Candidate<'_, T>| {
        if candidate.variant == variant { common(candidate.tokens, tokens) } else { 0 }
    };
    let idle = || {
        sequences.iter().enumerate().filter_map(|(place, candidate)| match candidate.occupancy {
            Occupancy::Idle(since) => Some((place, candidate, since)),
            Occupancy::Busy => None,
        })
    };
    // Taking a sequence destroys what follows the common part: only where that is the smaller half.
    let own = idle()
        .map(|(place, candidate, since)| (matches(candidate), since, place))
        .filter(|(length, _, place)| *length > 0 && length * 2 >= sequences[*place].tokens.len())
        .max();
    let least = idle().min_by_key(|(place, candidate, since)| (!candidate.tokens.is_empty(), *since, *place));
    let (least, _, _) = least?;
    let elsewhere = sequences
        .iter()
        .enumerate()
        .map(|(place, candidate)| (matches(candidate), Source::Sequence(place, matches(candidate))))
        .chain(saved.best(variant, tokens).map(|(entry, length)| (length, Source::Saved(entry, length))))
        .max_by_key(|(length, _)| *length);
    let own_length = own.map_or(0, |(length, _, _)| length);
    if let Some((length, source)) = elsewhere
        && length >= own_length + WORTH_COPYING
    {
        let sequence = own.map_or(least, |(_, _, place)| place);
        let source = if source == Source::Sequence(sequence, length) { Source::Own(length) } else { source };
        return Some(Plan { sequence, source });
    }
    match own {
        Some((length, _, place)) => Some(Plan { sequence: place, source: Source::Own(length) }),
        None => {
            // A few common tokens in the one that is taken anyway cost nothing.
            let length = sequences.get(least).map_or(0, matches);
            let source = if length > 0 { Source::Own(length) } else { Source::Nothing };
            Some(Plan { sequence: least, source })
        }
    }
}

/// Beginnings that were pushed out of the sequences, the latest used ones, up to a number of bytes.
#[derive(Debug)]
pub(super) struct PrefixCache<T, S> {
    entries: Vec<Entry<T, S>>,
    capacity: usize,
    size: usize,
    clock: u64,
}

#[derive(Debug)]
struct Entry<T, S> {
    variant: Variant,
    tokens: Vec<T>,
    state: S,
    size: usize,
    used: u64,
}

impl<T: PartialEq, S> PrefixCache<T, S> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: Vec::new(), capacity, size: 0, clock: 0 }
    }

    /// Whether something of `size` bytes could be kept at all.
    pub(super) fn takes(&self, size: usize) -> bool {
        size <= self.capacity
    }

    /// The entry with the longest common beginning, and its length.
    pub(super) fn best(&self, variant: &Variant, tokens: &[T]) -> Option<(usize, usize)> {
        let lengths = self.entries.iter().enumerate().filter(|(_, entry)| entry.variant == *variant);
        lengths
            .map(|(place, entry)| (place, common(&entry.tokens, tokens)))
            .filter(|(_, length)| *length > 0)
            .max_by_key(|(_, length)| *length)
    }

    /// The state of an entry, which counts as a use.
    pub(super) fn state(&mut self, entry: usize) -> Option<&S> {
        self.clock += 1;
        let entry = self.entries.get_mut(entry)?;
        entry.used = self.clock;
        Some(&entry.state)
    }

    /// Keeps a state of `size` bytes. Beginnings of it are covered by it and go; after them the longest unused.
    pub(super) fn insert(&mut self, variant: Variant, tokens: Vec<T>, state: S, size: usize) {
        if !self.takes(size) {
            return;
        }
        self.remove(|entry| entry.variant == variant && tokens.starts_with(&entry.tokens));
        while self.size + size > self.capacity {
            let Some(oldest) = self.entries.iter().map(|entry| entry.used).min() else { break };
            self.remove(|entry| entry.used == oldest);
        }
        self.clock += 1;
        self.size += size;
        self.entries.push(Entry { variant, tokens, state, size, used: self.clock });
    }

    /// Whether all of `tokens` is kept already.
    pub(super) fn covers(&self, variant: &Variant, tokens: &[T]) -> bool {
        self.best(variant, tokens).is_some_and(|(_, length)| length == tokens.len())
    }

    /// Drops what was computed with an adapter.
    pub(super) fn forget_adapter(&mut self, id: &str) {
        self.remove(|entry| entry.variant.has_adapter(id));
    }

    fn remove(&mut self, which: impl Fn(&Entry<T, S>) -> bool) {
        self.entries.retain(|entry| !which(entry));
        self.size = self.entries.iter().map(|entry| entry.size).sum();
    }
}

#[cfg(test)]
mod tests;
