//! Which address is tried when (after RFC 8305): addresses take turns between families and gateways, a quarter of a
//! second apart; QUIC has a head start before TCP. Pure: time comes in as an argument.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::carrier::Carrier;

/// Between the starts of two attempts over the same carrier; a failed one is followed at once.
pub(super) const STAGGER: Duration = Duration::from_millis(250);
/// TCP that comes first leaves QUIC this much more time.
pub(super) const TIE: Duration = Duration::from_millis(300);

/// Where an attempt goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Quic(SocketAddr),
    Tcp(SocketAddr),
    /// Over TCP, through the proxy.
    Proxied,
}

impl Target {
    pub(super) fn carrier(&self) -> Carrier {
        match self {
            Self::Quic(_) => Carrier::Quic,
            Self::Tcp(_) | Self::Proxied => Carrier::Tcp,
        }
    }
}

/// An attempt to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Try {
    /// Which of the gateways.
    pub(super) gateway: usize,
    pub(super) target: Target,
}

/// The attempts of one carrier: waiting, and under way.
#[derive(Debug)]
struct Lane {
    waiting: Vec<VecDeque<Target>>,
    running: Vec<usize>,
    turn: usize,
    next_at: Instant,
}

impl Lane {
    fn new(gateways: usize, from: Instant) -> Self {
        Self { waiting: vec![VecDeque::new(); gateways], running: vec![0; gateways], turn: 0, next_at: from }
    }

    fn pop(&mut self) -> Option<Try> {
        let gateways = self.waiting.len();
        for step in 0..gateways {
            let gateway = (self.turn + step) % gateways;
            if let Some(target) = self.waiting[gateway].pop_front() {
                self.turn = gateway + 1;
                self.running[gateway] += 1;
                return Some(Try { gateway, target });
            }
        }
        None
    }

    fn is_waiting(&self) -> bool {
        self.waiting.iter().any(|targets| !targets.is_empty())
    }

    fn is_over(&self, refused: &[bool]) -> bool {
        let under_way = self.running.iter().zip(refused).any(|(running, refused)| *running > 0 && !refused);
        !self.is_waiting() && !under_way
    }
}

/// The state of a race.
#[derive(Debug)]
pub(super) struct Race {
    quic: Lane,
    tcp: Lane,
    /// Gateways that answered with a refusal: another address changes nothing.
    refused: Vec<bool>,
    /// Names that are being looked up.
    unresolved: usize,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Start(Try),
    /// Nothing before this time, unless something happens.
    Wait(Option<Instant>),
    /// Every attempt has failed.
    Over,
}

impl Race {
    /// `tcp_after`: the head start of QUIC.
    pub(super) fn new(gateways: usize, now: Instant, tcp_after: Duration) -> Self {
        Self {
            quic: Lane::new(gateways, now),
            tcp: Lane::new(gateways, now + tcp_after),
            refused: vec![false; gateways],
            unresolved: gateways,
        }
    }

    /// A name was looked up, with or without success.
    pub(super) fn resolved(&mut self, gateway: usize, addresses: Vec<SocketAddr>, tcp_port: Option<u16>) {
        self.unresolved = self.unresolved.saturating_sub(1);
        for address in interleave(addresses) {
            self.quic.waiting[gateway].push_back(Target::Quic(address));
            if let Some(port) = tcp_port {
                self.tcp.waiting[gateway].push_back(Target::Tcp(SocketAddr::new(address.ip(), port)));
            }
        }
    }

    /// There is a way through the proxy, whatever the name resolves to here.
    pub(super) fn proxied(&mut self, gateway: usize) {
        self.tcp.waiting[gateway].push_back(Target::Proxied);
    }

    /// An attempt has failed. `refused`: by a gateway that answered.
    pub(super) fn failed(&mut self, tried: &Try, refused: bool, now: Instant) {
        let lane = match tried.target.carrier() {
            Carrier::Quic => &mut self.quic,
            Carrier::Tcp => &mut self.tcp,
        };
        lane.running[tried.gateway] = lane.running[tried.gateway].saturating_sub(1);
        // TCP's own head start stays.
        lane.next_at = lane.next_at.min(now);
        if refused {
            self.refused[tried.gateway] = true;
            self.quic.waiting[tried.gateway].clear();
            self.tcp.waiting[tried.gateway].clear();
        }
    }

    /// QUIC can't win any more.
    pub(super) fn quic_is_over(&self) -> bool {
        self.unresolved == 0 && self.quic.is_over(&self.refused)
    }

    pub(super) fn step(&mut self, now: Instant) -> Step {
        if now >= self.quic.next_at
            && let Some(next) = self.quic.pop()
        {
            self.quic.next_at = now + STAGGER;
            return Step::Start(next);
        }
        let alone = self.quic_is_over();
        if (alone || now >= self.tcp.next_at)
            && let Some(next) = self.tcp.pop()
        {
            self.tcp.next_at = now + STAGGER;
            return Step::Start(next);
        }
        if alone && self.tcp.is_over(&self.refused) {
            return Step::Over;
        }
        let due = |lane: &Lane| lane.is_waiting().then_some(lane.next_at);
        Step::Wait([due(&self.quic), due(&self.tcp)].into_iter().flatten().min())
    }
}

/// One of each family in turn, beginning with the family of the first.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(first.pop_front());
        all.extend(second.pop_front());
        if all.len() == before {
            return all;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Duration = Duration::from_millis(1500);

    fn v4(last: u8, port: u16) -> SocketAddr {
        ([192, 0, 2, last], port).into()
    }

    fn v6(last: u16, port: u16) -> SocketAddr {
        ([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], port).into()
    }

    fn quic(gateway: usize, address: SocketAddr) -> Step {
        Step::Start(Try { gateway, target: Target::Quic(address) })
    }

    fn tcp(gateway: usize, address: SocketAddr) -> Step {
        Step::Start(Try { gateway, target: Target::Tcp(address) })
    }

    fn tried(step: Step) -> Try {
        match step {
            Step::Start(tried) => tried,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn families_take_turns() {
        let mixed = vec![v6(1, 1), v6(2, 1), v6(3, 1), v4(1, 1)];
        assert_eq!(interleave(mixed), [v6(1, 1), v4(1, 1), v6(2, 1), v6(3, 1)]);
        assert_eq!(interleave(vec![v4(1, 1), v6(1, 1), v6(2, 1)]), [v4(1, 1), v6(1, 1), v6(2, 1)]);
        assert_eq!(interleave(Vec::new()), []);
    }

    #[test]
    fn gateways_take_turns_a_quarter_of_a_second_apart() {
        let now = Instant::now();
        let mut race = Race::new(2, now, HEAD);
        assert_eq!(race.step(now), Step::Wait(None), "nothing is resolved");
        race.resolved(0, vec![v4(1, 9), v4(2, 9)], None);
        race.resolved(1, vec![v4(7, 9)], None);
        assert_eq!(race.step(now), quic(0, v4(1, 9)));
        assert_eq!(race.step(now), Step::Wait(Some(now + STAGGER)));
        assert_eq!(race.step(now + STAGGER), quic(1, v4(7, 9)));
        assert_eq!(race.step(now + STAGGER * 2), quic(0, v4(2, 9)));
        assert_eq!(race.step(now + STAGGER * 3), Step::Wait(None));
    }

    #[test]
    fn a_failed_attempt_is_followed_at_once() {
        let now = Instant::now();
        let mut race = Race::new(1, now, HEAD);
        race.resolved(0, vec![v4(1, 9), v4(2, 9)], None);
        let first = tried(race.step(now));
        race.failed(&first, false, now);
        assert_eq!(race.step(now), quic(0, v4(2, 9)));
    }

    #[test]
    fn tcp_starts_after_the_head_start_of_quic() {
        let now = Instant::now();
        let mut race = Race::new(1, now, HEAD);
        race.resolved(0, vec![v4(1, 9)], Some(443));
        assert_eq!(race.step(now), quic(0, v4(1, 9)));
        assert_eq!(race.step(now + HEAD / 2), Step::Wait(Some(now + HEAD)));
        assert_eq!(race.step(now + HEAD), tcp(0, v4(1, 443)));
        assert!(!race.quic_is_over(), "it goes on");
    }

    #[test]
    fn tcp_does_not_wait_for_a_quic_that_is_over() {
        let now = Instant::now();
        let mut race = Race::new(1, now, HEAD);
        race.resolved(0, vec![v4(1, 9)], Some(443));
        let first = tried(race.step(now));
        race.failed(&first, false, now);
        assert_eq!(race.step(now), tcp(0, v4(1, 443)));
    }

    #[test]
    fn a_failed_tcp_attempt_takes_no_head_start_from_quic() {
        let now = Instant::now();
        let mut race = Race::new(2, now, Duration::ZERO);
        race.resolved(0, vec![v4(1, 9)], Some(443));
        race.resolved(1, vec![v4(2, 9)], Some(443));
        assert_eq!(race.step(now), quic(0, v4(1, 9)));
        let first = tried(race.step(now));
        assert_eq!(first.target, Target::Tcp(v4(1, 443)));
        race.failed(&first, false, now);
        assert_eq!(race.step(now), tcp(1, v4(2, 443)));
        assert_eq!(race.step(now + STAGGER), quic(1, v4(2, 9)));
    }

    #[test]
    fn a_gateway_that_refused_is_not_asked_at_another_address() {
        let now = Instant::now();
        let mut race = Race::new(1, now, HEAD);
        race.resolved(0, vec![v4(1, 9), v4(2, 9), v4(3, 9)], Some(443));
        let first = tried(race.step(now));
        let _second = tried(race.step(now + STAGGER));
        race.failed(&first, true, now + STAGGER);
        assert_eq!(race.step(now + STAGGER), Step::Over, "the second attempt at it is not waited for");
    }

    #[test]
    fn the_way_through_a_proxy_needs_no_name_here() {
        let now = Instant::now();
        let mut race = Race::new(1, now, HEAD);
        race.proxied(0);
        race.resolved(0, Vec::new(), None);
        let only = tried(race.step(now));
        assert_eq!(only.target, Target::Proxied);
        race.failed(&only, false, now);
        assert_eq!(race.step(now), Step::Over);
    }
}
