//! Whether the gateway still answers, decided from heartbeats and their acks alone. Pure: time comes in as an argument.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Timing;

/// Heartbeats in flight, at most; a healthy tunnel has one.
const MAX_PENDING: usize = 32;
/// A round trip is a moving thing: silence means something after four of them.
const RTT_FACTOR: u32 = 4;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Send a heartbeat.
    Beat,
    /// Send one early: the last is not answered.
    Probe,
    /// Give the connection up.
    Lost,
}

#[derive(Debug)]
pub(super) struct Liveness {
    interval: Duration,
    probe_after: Duration,
    lost_after: Duration,
    seq: u64,
    pending: VecDeque<(u64, Instant)>,
    last_sent: Option<Instant>,
    last_ack: Instant,
    rtt: Option<Duration>,
}

impl Liveness {
    /// The gateway has just proven to be alive (it said welcome).
    pub(super) fn new(interval: Duration, timing: &Timing, now: Instant) -> Self {
        Self {
            interval,
            probe_after: timing.probe_after,
            lost_after: timing.lost_after,
            seq: 0,
            pending: VecDeque::new(),
            last_sent: None,
            last_ack: now,
            rtt: None,
        }
    }

    /// The last measured round trip.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Notes that a heartbeat is being sent; its number.
    pub(super) fn sent(&mut self, now: Instant) -> u64 {
        self.seq += 1;
        self.pending.push_back((self.seq, now));
        self.last_sent = Some(now);
        self.seq
    }

    /// The number of the newest unanswered heartbeat, when there are too many to add one.
    pub(super) fn saturated(&self) -> Option<u64> {
        let full = self.pending.len() >= MAX_PENDING;
        self.pending.back().filter(|_| full).map(|(seq, _)| *seq)
    }

    /// Notes an ack; the round trip, when it answers a heartbeat that is waiting. Any other number proves nothing.
    pub(super) fn acked(&mut self, seq: u64, now: Instant) -> Option<Duration> {
        let at = self.pending.iter().position(|(waiting, _)| *waiting == seq)?;
        // The stream keeps order: what was sent before and not answered will not be.
        let (_, sent) = self.pending.drain(..=at).next_back()?;
        let rtt = now.saturating_duration_since(sent);
        self.last_ack = now;
        self.rtt = Some(rtt);
        Some(rtt)
    }

    /// What is due next, and when. While work runs, heartbeats go out often enough to notice a dead path while
    /// somebody waits for an answer.
    pub(super) fn next(&self, working: bool) -> (Instant, Due) {
        let Some(last_sent) = self.last_sent else { return (self.last_ack, Due::Beat) };
        let Some((_, oldest)) = self.pending.front() else {
            let pace = if working { self.interval.min(self.probe_after) } else { self.interval };
            return (last_sent + pace, Due::Beat);
        };
        let patience = self.rtt.map_or(self.probe_after, |rtt| self.probe_after.max(rtt * RTT_FACTOR));
        // After a quiet interval the last ack is old already; the heartbeat still gets its probe and an answer.
        let lost = (self.last_ack + self.lost_after).max(*oldest + 2 * patience);
        let probe = last_sent + patience;
        if probe < lost { (probe, Due::Probe) } else { (lost, Due::Lost) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MILLI: Duration = Duration::from_millis(1);

    fn fresh() -> (Liveness, Instant) {
        let now = Instant::now();
        (Liveness::new(30 * SECOND, &Timing::default(), now), now)
    }

    #[test]
    fn the_first_heartbeat_is_due_at_once_and_the_next_after_the_interval() {
        let (mut live, now) = fresh();
        assert_eq!(live.next(false), (now, Due::Beat));
        let seq = live.sent(now);
        assert_eq!(live.acked(seq, now + MILLI), Some(MILLI));
        assert_eq!(live.next(false), (now + 30 * SECOND, Due::Beat));
        assert_eq!(live.next(true), (now + 3 * SECOND, Due::Beat));
    }

    #[test]
    fn an_unanswered_heartbeat_is_probed_and_then_the_path_is_lost() {
        let (mut live, now) = fresh();
        live.sent(now);
        assert_eq!(live.next(false), (now + 3 * SECOND, Due::Probe));
        live.sent(now + 3 * SECOND);
        assert_eq!(live.next(false), (now + 6 * SECOND, Due::Probe));
        live.sent(now + 6 * SECOND);
        assert_eq!(live.next(false), (now + 9 * SECOND, Due::Probe));
        live.sent(now + 9 * SECOND);
        assert_eq!(live.next(false), (now + 10 * SECOND, Due::Lost));
    }

    #[test]
    fn after_a_quiet_interval_an_unanswered_heartbeat_still_gets_its_probe() {
        let (mut live, now) = fresh();
        let first = live.sent(now);
        live.acked(first, now + MILLI);
        let late = now + 30 * SECOND;
        live.sent(late);
        assert_eq!(live.next(false), (late + 3 * SECOND, Due::Probe));
        live.sent(late + 3 * SECOND);
        assert_eq!(live.next(false), (late + 6 * SECOND, Due::Lost));
    }

    #[test]
    fn a_slow_path_is_given_four_round_trips() {
        let (mut live, now) = fresh();
        let first = live.sent(now);
        live.acked(first, now + 2 * SECOND);
        let second = now + 30 * SECOND;
        live.sent(second);
        assert_eq!(live.next(false), (second + 8 * SECOND, Due::Probe));
    }

    #[test]
    fn only_a_matching_ack_is_an_answer() {
        let (mut live, now) = fresh();
        let seq = live.sent(now);
        assert_eq!(live.acked(seq + 1, now + MILLI), None);
        assert_eq!(live.acked(0, now + MILLI), None);
        assert_eq!(live.rtt(), None);
        assert_eq!(live.acked(seq, now + MILLI), Some(MILLI));
        assert_eq!(live.acked(seq, now + SECOND), None, "once");
        assert_eq!(live.rtt(), Some(MILLI));
    }

    #[test]
    fn an_ack_of_a_probe_settles_what_was_sent_before() {
        let (mut live, now) = fresh();
        live.sent(now);
        let probe = live.sent(now + 3 * SECOND);
        assert_eq!(live.acked(probe, now + 3 * SECOND + MILLI), Some(MILLI));
        assert_eq!(live.next(false), (now + 33 * SECOND, Due::Beat));
    }

    #[test]
    fn heartbeats_in_flight_are_bounded() {
        let (mut live, now) = fresh();
        while live.saturated().is_none() {
            live.sent(now);
        }
        assert_eq!(live.pending.len(), MAX_PENDING);
        assert_eq!(live.saturated(), Some(MAX_PENDING as u64));
    }
}
