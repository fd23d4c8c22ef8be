//! The tunnel's state machine, as a pure function. It decides; the driver does what the effects say.

use std::time::Duration;

use Effect::{
    AnnounceDown, AnnounceUp, AwaitMove, AwaitRetry, AwaitStable, AwaitTurn, Dial, Discard, Hangup, Rebind,
    Release, SeekQuic, Switch,
};
use Event as E;
use State as S;

use super::Verdict;
use crate::carrier::Carrier;

/// Where the tunnel is. `attempt` counts failures in a row since the last stable period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No identity.
    Unenrolled,
    /// An identity, but the driver does not run.
    Offline,
    /// A dial is under way.
    Connecting { attempt: u32 },
    /// Welcomed.
    Up { attempt: u32 },
    /// Still up, and about to move.
    Draining,
    /// Waiting before the next dial.
    Backoff { attempt: u32 },
    /// The gateway took the identity back: no dial until something changes.
    Revoked,
}

/// What happens to a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The driver starts, with an identity at hand.
    Start,
    /// The driver is told to stop.
    Stop,
    /// There is an identity now, the first or another.
    IdentitySet,
    /// There is none any more.
    IdentityCleared,
    /// Somebody wants a new connection, now.
    Reconnect,
    /// This machine's network is another one now.
    NetworkChanged,
    /// The gateway said welcome.
    Connected(Carrier),
    /// A gateway said welcome over QUIC, beside the connection over TCP.
    Upgraded,
    /// The gateway wants us elsewhere within this time.
    Drain { within: Duration },
    /// The timer of this state is due.
    Due,
    /// The dial or the connection failed.
    Failed(Verdict),
}

/// What the driver has to do, in this order. A timer belongs to the state that set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Close the connection, or give up the dial.
    Hangup,
    /// Leave the connection to the answers that still run on it.
    Release,
    /// Start a dial.
    Dial,
    /// Look for a way over QUIC, beside the connection.
    SeekQuic,
    /// Use the connection over QUIC for new work, and leave the other to the answers that still run on it.
    Switch,
    /// Close the connection over QUIC: it came too late.
    Discard,
    /// Bind the connection's path anew and probe it.
    Rebind,
    /// Tell everybody.
    AnnounceUp,
    /// Tell everybody.
    AnnounceDown,
    /// [`Event::Due`] when the connection was up for the stable period.
    AwaitStable,
    /// [`Event::Due`] after a wait drawn for this attempt.
    AwaitRetry { attempt: u32 },
    /// The same, where many others wait too: spread as far as the gateway asked for.
    AwaitTurn { attempt: u32 },
    /// [`Event::Due`] at a random moment within this time.
    AwaitMove { within: Duration },
}

/// Being turned away for good is waited out at the cap: trying sooner changes nothing.
const REFUSED_ATTEMPT: u32 = u32::MAX;

/// The machine: what follows from an event in a state. An event that means nothing there changes nothing.
pub(super) fn step(state: State, event: Event) -> (State, Vec<Effect>) {
    match (state, event) {
        // Without an identity, only an identity matters.
        (S::Unenrolled, E::IdentitySet) => (S::Connecting { attempt: 0 }, vec![Dial]),
        (S::Unenrolled, _) => (S::Unenrolled, vec![]),

        (S::Offline, E::Start | E::Reconnect | E::IdentitySet) => (S::Connecting { attempt: 0 }, vec![Dial]),

        // These three mean the same in every state; what differs is what there is to leave.
        (_, E::Reconnect | E::IdentitySet) => {
            (S::Connecting { attempt: 0 }, leave(state).into_iter().chain([Dial]).collect())
        }
        // What failed on another network says nothing about this one. A dial that is under way may be waiting for an answer
        // that can no longer come.
        (S::Connecting { .. }, E::NetworkChanged) => (S::Connecting { attempt: 0 }, vec![Hangup, Dial]),
        (S::Backoff { .. }, E::NetworkChanged) => (S::Connecting { attempt: 0 }, vec![Dial]),
        (S::Up { .. } | S::Draining, E::NetworkChanged) => (state, vec![Rebind]),
        (S::Offline | S::Revoked, E::NetworkChanged) => (state, vec![]),

        (_, E::IdentityCleared) => (S::Unenrolled, leave(state)),
        (S::Revoked, E::Stop) => (S::Revoked, vec![]),
        (_, E::Stop) => (S::Offline, leave(state)),

        (S::Connecting { attempt }, E::Connected(Carrier::Quic)) => {
            (S::Up { attempt }, vec![AnnounceUp, AwaitStable])
        }
        (S::Connecting { attempt }, E::Connected(Carrier::Tcp)) => {
            (S::Up { attempt }, vec![AnnounceUp, AwaitStable, SeekQuic])
        }
        (S::Connecting { attempt }, E::Failed(verdict)) => failed(attempt, verdict, vec![Hangup]),

        (S::Up { .. }, E::Due) => (S::Up { attempt: 0 }, vec![]),
        // The device is no less connected than before: nobody has to hear of it.
        (S::Up { attempt }, E::Upgraded) => (S::Up { attempt }, vec![Switch, AwaitStable]),
        (_, E::Upgraded) => (state, vec![Discard]),
        (S::Up { .. }, E::Drain { within }) => (S::Draining, vec![AwaitMove { within }]),
        (S::Up { attempt }, E::Failed(verdict)) => failed(attempt, verdict, vec![AnnounceDown, Hangup]),

        (S::Draining, E::Due) => (S::Connecting { attempt: 0 }, vec![AnnounceDown, Release, Dial]),
        (S::Draining, E::Failed(verdict)) => failed(0, verdict, vec![AnnounceDown, Hangup]),

        (S::Backoff { attempt }, E::Due) => (S::Connecting { attempt }, vec![Dial]),

        // Late news of a connection that was given up, and timers that were overtaken.
        (
            S::Offline | S::Connecting { .. } | S::Up { .. } | S::Draining | S::Backoff { .. } | S::Revoked,
            E::Start | E::Connected(_) | E::Drain { .. } | E::Due | E::Failed(_),
        ) => (state, vec![]),
    }
}

/// What there is to leave behind in a state.
fn leave(state: State) -> Vec<Effect> {
    match state {
        S::Up { .. } | S::Draining => vec![AnnounceDown, Hangup],
        S::Connecting { .. } => vec![Hangup],
        S::Unenrolled | S::Offline | S::Backoff { .. } | S::Revoked => vec![],
    }
}

fn failed(attempt: u32, verdict: Verdict, mut effects: Vec<Effect>) -> (State, Vec<Effect>) {
    let wait = match verdict {
        Verdict::Retry => AwaitRetry { attempt },
        Verdict::RetryInTurn => AwaitTurn { attempt },
        Verdict::Refused => AwaitRetry { attempt: REFUSED_ATTEMPT },
        Verdict::Revoked => return (S::Revoked, effects),
    };
    effects.push(wait);
    (S::Backoff { attempt: attempt.saturating_add(1) }, effects)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_secs(5);

    const EVENTS: [Event; 13] = [
        E::Start,
        E::Stop,
        E::IdentitySet,
        E::IdentityCleared,
        E::Reconnect,
        E::NetworkChanged,
        E::Connected(Carrier::Quic),
        E::Drain { within: WITHIN },
        E::Due,
        E::Failed(Verdict::Retry),
        E::Failed(Verdict::RetryInTurn),
        E::Failed(Verdict::Refused),
        E::Failed(Verdict::Revoked),
    ];

    /// One row per event, in the order of [`EVENTS`].
    fn check(state: State, expected: [(State, &[Effect]); 13]) {
        for (event, (next, effects)) in EVENTS.into_iter().zip(expected) {
            assert_eq!(step(state, event), (next, effects.to_vec()), "{state:?} on {event:?}");
        }
    }

    const DIALLING: State = S::Connecting { attempt: 0 };

    #[test]
    fn unenrolled_waits_for_an_identity() {
        let same = (S::Unenrolled, &[][..]);
        check(
            S::Unenrolled,
            [same, same, (DIALLING, &[Dial]), same, same, same, same, same, same, same, same, same, same],
        );
    }

    #[test]
    fn offline_dials_when_started() {
        let same = (S::Offline, &[][..]);
        let dial = (DIALLING, &[Dial][..]);
        let cleared = (S::Unenrolled, &[][..]);
        check(S::Offline, [dial, same, dial, cleared, dial, same, same, same, same, same, same, same, same]);
    }

    #[test]
    fn connecting_ends_up_or_in_backoff() {
        let state = S::Connecting { attempt: 2 };
        let same = (state, &[][..]);
        check(
            state,
            [
                same,
                (S::Offline, &[Hangup]),
                (DIALLING, &[Hangup, Dial]),
                (S::Unenrolled, &[Hangup]),
                (DIALLING, &[Hangup, Dial]),
                (DIALLING, &[Hangup, Dial]),
                (S::Up { attempt: 2 }, &[AnnounceUp, AwaitStable]),
                same,
                same,
                (S::Backoff { attempt: 3 }, &[Hangup, AwaitRetry { attempt: 2 }]),
                (S::Backoff { attempt: 3 }, &[Hangup, AwaitTurn { attempt: 2 }]),
                (S::Backoff { attempt: 3 }, &[Hangup, AwaitRetry { attempt: REFUSED_ATTEMPT }]),
                (S::Revoked, &[Hangup]),
            ],
        );
    }

    #[test]
    fn up_is_left_with_an_announcement() {
        let state = S::Up { attempt: 2 };
        let same = (state, &[][..]);
        check(
            state,
            [
                same,
                (S::Offline, &[AnnounceDown, Hangup]),
                (DIALLING, &[AnnounceDown, Hangup, Dial]),
                (S::Unenrolled, &[AnnounceDown, Hangup]),
                (DIALLING, &[AnnounceDown, Hangup, Dial]),
                (state, &[Rebind]),
                same,
                (S::Draining, &[AwaitMove { within: WITHIN }]),
                (S::Up { attempt: 0 }, &[]),
                (S::Backoff { attempt: 3 }, &[AnnounceDown, Hangup, AwaitRetry { attempt: 2 }]),
                (S::Backoff { attempt: 3 }, &[AnnounceDown, Hangup, AwaitTurn { attempt: 2 }]),
                (S::Backoff { attempt: 3 }, &[AnnounceDown, Hangup, AwaitRetry { attempt: REFUSED_ATTEMPT }]),
                (S::Revoked, &[AnnounceDown, Hangup]),
            ],
        );
    }

    #[test]
    fn draining_moves_when_due_and_lets_answers_finish() {
        let same = (S::Draining, &[][..]);
        check(
            S::Draining,
            [
                same,
                (S::Offline, &[AnnounceDown, Hangup]),
                (DIALLING, &[AnnounceDown, Hangup, Dial]),
                (S::Unenrolled, &[AnnounceDown, Hangup]),
                (DIALLING, &[AnnounceDown, Hangup, Dial]),
                (S::Draining, &[Rebind]),
                same,
                same,
                (DIALLING, &[AnnounceDown, Release, Dial]),
                (S::Backoff { attempt: 1 }, &[AnnounceDown, Hangup, AwaitRetry { attempt: 0 }]),
                (S::Backoff { attempt: 1 }, &[AnnounceDown, Hangup, AwaitTurn { attempt: 0 }]),
                (S::Backoff { attempt: 1 }, &[AnnounceDown, Hangup, AwaitRetry { attempt: REFUSED_ATTEMPT }]),
                (S::Revoked, &[AnnounceDown, Hangup]),
            ],
        );
    }

    #[test]
    fn backoff_dials_when_due_or_asked_or_on_another_network() {
        let state = S::Backoff { attempt: 2 };
        let same = (state, &[][..]);
        let dial = (DIALLING, &[Dial][..]);
        let again = (S::Connecting { attempt: 2 }, &[Dial][..]);
        let (stopped, cleared) = ((S::Offline, &[][..]), (S::Unenrolled, &[][..]));
        check(state, [same, stopped, dial, cleared, dial, dial, same, same, again, same, same, same, same]);
    }

    #[test]
    fn revoked_dials_only_when_asked_or_with_another_identity() {
        let same = (S::Revoked, &[][..]);
        let dial = (DIALLING, &[Dial][..]);
        let cleared = (S::Unenrolled, &[][..]);
        check(S::Revoked, [same, same, dial, cleared, dial, same, same, same, same, same, same, same, same]);
    }

    const STATES: [State; 7] = [
        S::Unenrolled,
        S::Offline,
        S::Connecting { attempt: 2 },
        S::Up { attempt: 2 },
        S::Draining,
        S::Backoff { attempt: 2 },
        S::Revoked,
    ];

    #[test]
    fn over_tcp_a_tunnel_that_comes_up_looks_for_quic() {
        let expected: [(State, &[Effect]); 7] = STATES.map(|state| match state {
            S::Connecting { attempt } => (S::Up { attempt }, &[AnnounceUp, AwaitStable, SeekQuic][..]),
            same => (same, &[][..]),
        });
        for (state, (next, effects)) in STATES.into_iter().zip(expected) {
            assert_eq!(step(state, E::Connected(Carrier::Tcp)), (next, effects.to_vec()), "{state:?}");
        }
    }

    #[test]
    fn only_a_tunnel_that_is_up_switches_to_quic() {
        let expected: [(State, &[Effect]); 7] = STATES.map(|state| match state {
            S::Up { .. } => (state, &[Switch, AwaitStable][..]),
            S::Unenrolled => (state, &[][..]),
            same => (same, &[Discard][..]),
        });
        for (state, (next, effects)) in STATES.into_iter().zip(expected) {
            assert_eq!(step(state, E::Upgraded), (next, effects.to_vec()), "{state:?}");
        }
    }

    #[test]
    fn it_never_gives_up() {
        let mut state = S::Connecting { attempt: 0 };
        for _ in 0..100_000 {
            let (next, effects) = step(state, E::Failed(Verdict::Retry));
            assert!(matches!(effects[..], [Hangup, AwaitRetry { .. }]));
            (state, _) = step(next, E::Due);
            assert!(matches!(state, S::Connecting { .. }));
        }
    }
}
