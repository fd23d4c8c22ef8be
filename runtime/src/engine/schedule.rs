//! Which sequences are computed next. An adapter belongs to the whole context, so only sequences of one variant
//! share a batch; the groups take turns.

use std::time::Duration;

use tokio::time::Instant;

use super::variant::Variant;

/// How long a group is computed while another waits. Setting another adapter makes the library plan its graph
/// anew, which costs about as much as one token, and a group that gets to its end leaves room for larger ones:
/// long turns are what makes many adapters at once fast. It is also what the first token of a request with
/// another adapter may have to wait for, per group before it.
pub(super) const QUANTUM: Duration = Duration::from_millis(1000);

/// Sequences that may be computed in one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Group {
    /// All of one variant.
    Of(Variant),
    /// A deterministic request, by the number of its sequence.
    Alone(Variant, usize),
}

impl Group {
    pub(super) fn variant(&self) -> &Variant {
        match self {
            Self::Of(variant) | Self::Alone(variant, _) => variant,
        }
    }
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Rota {
    current: Option<(Group, Instant)>,
    /// Groups with work that are not the current one, and since when they wait.
    waiting: Vec<(Group, Instant)>,
}

impl Rota {
    /// The group to compute now, one of `ready`; `None` when nobody is. Keeps the current one until it is gone
    /// or its time is over while others wait, and goes on with the one that waited longest.
    pub(super) fn next(&mut self, now: Instant, ready: &[Group]) -> Option<Group> {
        self.waiting.retain(|(group, _)| ready.contains(group));
        let current = self.current.take().filter(|(group, _)| ready.contains(group));
        for group in ready {
            let is_current = current.as_ref().is_some_and(|(own, _)| own == group);
            if !is_current && !self.waiting.iter().any(|(other, _)| other == group) {
                self.waiting.push((group.clone(), now));
            }
        }
        let current = match current {
            Some((group, since)) if self.waiting.is_empty() || now - since < QUANTUM => (group, since),
            ended => {
                let (place, _) = self.waiting.iter().enumerate().min_by_key(|(_, (_, since))| *since)?;
                let (next, _) = self.waiting.remove(place);
                if let Some((group, _)) = ended {
                    self.waiting.push((group, now));
                }
                (next, now)
            }
        };
        self.current = Some(current.clone());
        Some(current.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Group {
        Group::Of(Variant::adapted(name, 1.0))
    }

    /// The groups that are computed at the given milliseconds.
    fn turns(moments: &[(u64, &[Group])]) -> Vec<Option<Group>> {
        let (mut rota, start) = (Rota::default(), Instant::now());
        moments.iter().map(|(at, ready)| rota.next(start + Duration::from_millis(*at), ready)).collect()
    }

    #[test]
    fn a_group_goes_on_until_its_time_is_over_and_another_waits() {
        let (a, b) = (of("a"), of("b"));
        let both = [a.clone(), b.clone()];
        assert_eq!(
            turns(&[(0, &both), (999, &both), (1000, &both), (1999, &both), (2000, &both)]),
            [Some(a.clone()), Some(a.clone()), Some(b.clone()), Some(b), Some(a)],
        );
    }

    #[test]
    fn alone_a_group_never_stops() {
        let a = of("a");
        let only = [a.clone()];
        assert_eq!(turns(&[(0, &only), (60_000, &only), (120_000, &only)]), vec![Some(a); 3]);
    }

    #[test]
    fn a_group_that_has_nothing_left_makes_room_at_once() {
        let (a, b) = (of("a"), of("b"));
        let (both, second) = ([a.clone(), b.clone()], [b.clone()]);
        assert_eq!(turns(&[(0, &both), (10, &second), (20, &both)]), [Some(a), Some(b.clone()), Some(b)]);
        assert_eq!(turns(&[(0, &[])]), [None]);
    }

    #[test]
    fn the_one_that_waited_longest_is_next_and_nobody_starves() {
        let all = [of("a"), of("b"), of("c"), Group::Alone(Variant::default(), 3)];
        let moments: Vec<(u64, &[Group])> = (0..8).map(|turn| (turn * 1000, &all[..])).collect();
        let order = turns(&moments);
        assert_eq!(order[..4].iter().flatten().cloned().collect::<Vec<_>>(), all);
        assert_eq!(order[..4], order[4..]);
    }

    #[test]
    fn scales_and_deterministic_requests_are_groups_of_their_own() {
        assert_ne!(Group::Of(Variant::adapted("a", 1.0)), Group::Of(Variant::adapted("a", 0.5)));
        assert_ne!(Group::Of(Variant::default()), Group::Alone(Variant::default(), 0));
    }
}
