//! Who is next: requests wait in line per owner, and the owners take turns.

use std::collections::VecDeque;

/// First come, first served within an owner; round robin between owners. Whoever bounds it does so before the
/// request gets here (see [`super::vitals`]).
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    /// Owners with something to do; the front one is next.
    owners: VecDeque<(String, VecDeque<T>)>,
}

impl<T> FairQueue<T> {
    pub(super) fn new() -> Self {
        Self { owners: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    pub(super) fn push(&mut self, owner: &str, item: T) {
        match self.owners.iter_mut().find(|(name, _)| name == owner) {
            Some((_, items)) => items.push_back(item),
            None => self.owners.push_back((owner.to_owned(), VecDeque::from([item]))),
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let (owner, mut items) = self.owners.pop_front()?;
        let item = items.pop_front();
        if !items.is_empty() {
            self.owners.push_back((owner, items));
        }
        item
    }

    /// Drops every item that is not wanted any more.
    pub(super) fn retain(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        for (_, items) in &mut self.owners {
            items.retain(&mut wanted);
        }
        self.owners.retain(|(_, items)| !items.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drained(queue: &mut FairQueue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn owners_take_turns_and_each_keeps_its_order() {
        let mut queue = FairQueue::new();
        for (owner, item) in [("a", 1), ("a", 2), ("a", 3), ("b", 10), ("c", 20), ("b", 11)] {
            queue.push(owner, item);
        }
        assert_eq!(drained(&mut queue), [1, 10, 20, 2, 11, 3]);
        assert!(queue.is_empty());
    }

    #[test]
    fn an_owner_that_comes_late_does_not_wait_for_the_whole_line_of_another() {
        let mut queue = FairQueue::new();
        for item in 0..50 {
            queue.push("greedy", item);
        }
        assert_eq!(queue.pop(), Some(0));
        queue.push("modest", 99);
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.pop(), Some(99));
    }

    #[test]
    fn what_is_not_wanted_any_more_leaves_the_line() {
        let mut queue = FairQueue::new();
        for (owner, item) in [("a", 1), ("b", 2), ("a", 3)] {
            queue.push(owner, item);
        }
        queue.retain(|item| *item == 3);
        assert_eq!(drained(&mut queue), [3]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nobody_waits_longer_than_one_round_per_own_request(
            owners in proptest::collection::vec(0_u8..4, 0..40),
        ) {
            let mut queue = FairQueue::new();
            for (number, owner) in owners.iter().enumerate() {
                queue.push(&owner.to_string(), (*owner, number));
            }
            let order: Vec<(u8, usize)> = std::iter::from_fn(|| queue.pop()).collect();
            prop_assert_eq!(order.len(), owners.len());
            for owner in 0..4 {
                let places: Vec<usize> = order.iter().enumerate().filter(|(_, item)| item.0 == owner).map(|(place, _)| place).collect();
                for (nth, place) in places.iter().enumerate() {
                    // Each of the four owners comes at most once per round.
                    prop_assert!(*place < 4 * (nth + 1));
                }
            }
        }
    }
}
