//! Whether the gateway still answers, decided from heartbeats and their acks alone. A heartbeat that stays unanswered puts
//! the path in doubt: it is bound anew, and if that does not help the connection is given up. Pure: time comes in as
//! an argument. The numbers and why they are these: docs/adr/0016.

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
    /// The last one is not answered: bind the path anew, and send one over it.
    Rebind,
    /// Not even that is answered: give the connection up.
    Lost,
}

#[derive(Debug)]
pub(super) struct Liveness {
    interval: Duration,
    working_interval: Duration,
    rebind_after: Duration,
    lost_after: Duration,
    seq: u64,
    pending: VecDeque<(u64, Instant)>,
    last_sent: Option<Instant>,
    /// When the path was bound anew because of the silence that lasts.
    rebound: Option<Instant>,
    started: Instant,
    rtt: Option<Duration>,
}

impl Liveness {
    /// The gateway has just proven to be alive (it said welcome).
    pub(super) fn new(interval: Duration, timing: &Timing, now: Instant) -> Self {
        Self {
            interval,
            working_interval: interval.min(timing.working_heartbeat),
            rebind_after: timing.rebind_after,
            lost_after: timing.lost_after,
            seq: 0,
            pending: VecDeque::new(),
            last_sent: None,
            rebound: None,
            started: now,
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

    /// Notes that silence made us bind the path anew.
    pub(super) fn rebound(&mut self, now: Instant) {
        self.rebound = Some(now);
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
        self.rebound = None;
        self.rtt = Some(rtt);
        Some(rtt)
    }

    /// What is due next, and when. While work runs, heartbeats go out often enough to replace a dead path while
    /// somebody waits for an answer.
    pub(super) fn next(&self, working: bool) -> (Instant, Due) {
        let Some(last_sent) = self.last_sent else { return (self.started, Due::Beat) };
        let Some((_, oldest)) = self.pending.front() else {
            let pace = if working { self.working_interval } else { self.interval };
            return (last_sent + pace, Due::Beat);
        };
        match self.rebound {
            None => (*oldest + self.patience(self.rebind_after), Due::Rebind),
            Some(at) => (at + self.patience(self.lost_after), Due::Lost),
        }
    }

    fn patience(&self, least: Duration) -> Duration {
        self.rtt.map_or(least, |rtt| least.max(rtt * RTT_FACTOR))
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
        assert_eq!(live.next(true), (now + 3 * SECOND / 2, Due::Beat), "sooner while work runs");
    }

    #[test]
    fn an_unanswered_heartbeat_has_the_path_bound_anew_and_then_the_connection_is_lost() {
        let (mut live, now) = fresh();
        live.sent(now);
        assert_eq!(live.next(false), (now + 3 * SECOND, Due::Rebind));
        live.rebound(now + 3 * SECOND);
        live.sent(now + 3 * SECOND);
        assert_eq!(live.next(false), (now + 5 * SECOND, Due::Lost));
    }

    #[test]
    fn a_heartbeat_before_the_silence_is_noticed_buys_no_time() {
        let (mut live, now) = fresh();
        live.sent(now);
        live.sent(now + 2 * SECOND);
        assert_eq!(live.next(true), (now + 3 * SECOND, Due::Rebind));
    }

    #[test]
    fn an_ack_after_the_rebinding_settles_the_matter() {
        let (mut live, now) = fresh();
        let first = live.sent(now);
        live.rebound(now + 3 * SECOND);
        let probe = live.sent(now + 3 * SECOND);
        // Late, but an answer: the path is alive, and the probe has a full patience of its own.
        assert_eq!(live.acked(first, now + 3 * SECOND + MILLI), Some(3 * SECOND + MILLI));
        assert_eq!(live.next(false).1, Due::Rebind);
        assert_eq!(live.acked(probe, now + 3 * SECOND + 2 * MILLI), Some(2 * MILLI));
        assert_eq!(live.next(false), (now + 33 * SECOND, Due::Beat));
    }

    #[test]
    fn a_slow_path_is_given_four_round_trips_each_time() {
        let (mut live, now) = fresh();
        let first = live.sent(now);
        live.acked(first, now + 2 * SECOND);
        let second = now + 30 * SECOND;
        live.sent(second);
        assert_eq!(live.next(false), (second + 8 * SECOND, Due::Rebind));
        live.rebound(second + 8 * SECOND);
        assert_eq!(live.next(false), (second + 16 * SECOND, Due::Lost));
    }

    #[test]
    fn a_path_that_dies_under_work_is_given_up_in_time_to_be_replaced_within_ten_seconds() {
        let timing = Timing::default();
        let (mut live, now) = fresh();
        let seq = live.sent(now);
        // The worst moment: right after an ack.
        live.acked(seq, now + MILLI);
        let (beat, _) = live.next(true);
        live.sent(beat);
        let (rebind, _) = live.next(true);
        live.rebound(rebind);
        let (lost, due) = live.next(true);
        assert_eq!(due, Due::Lost);
        // The longest first wait, the time QUIC gets before TCP is tried, and a second for handshakes.
        let rest = timing.backoff.base + 3 * SECOND / 2 + SECOND;
        assert!(lost - now + rest <= 10 * SECOND, "{:?}", lost - now);
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
    fn heartbeats_in_flight_are_bounded() {
        let (mut live, now) = fresh();
        while live.saturated().is_none() {
            live.sent(now);
        }
        assert_eq!(live.pending.len(), MAX_PENDING);
        assert_eq!(live.saturated(), Some(MAX_PENDING as u64));
    }
}
