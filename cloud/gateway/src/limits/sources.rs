//! How much of the door one network address may take. An address that has not been proven is a claim: it can have its
//! owner asked for a proof, and nothing more. So a forger neither fills a table nor shuts somebody else out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::bounded::Bounded;
use super::rate::{Bucket, Rate};

/// What counts as one source: an IPv4 address, or the /64 that a single IPv6 subscriber has at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    V4(Ipv4Addr),
    V6([u8; 8]),
}

impl Source {
    pub(crate) fn of(address: SocketAddr) -> Self {
        // A socket for both families shows IPv4 peers in a form of IPv6.
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// What one source may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SourceRules {
    /// Handshakes under way at the same time.
    pub(crate) handshakes: u32,
    /// New connections.
    pub(crate) connections: Rate,
}

/// What to do with a newcomer.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Shake hands.
    Come(UnderWay),
    /// Have it prove its address first.
    Prove,
    /// Its source has had enough.
    Refuse,
}

/// The handshakes and connections of each source.
#[derive(Debug, Clone)]
pub(crate) struct Sources(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    rules: SourceRules,
    tables: Mutex<Tables>,
}

#[derive(Debug)]
struct Tables {
    /// Proven, and not: never more entries than handshakes under way, which are few.
    under_way: HashMap<(Source, bool), u32>,
    /// Proven addresses only.
    connections: Bounded<Source, Bucket>,
}

impl Sources {
    /// Remembers the connections of at most `most` sources.
    pub(crate) fn new(rules: SourceRules, most: usize) -> Self {
        let tables = Tables { under_way: HashMap::new(), connections: Bounded::new(most) };
        Self(Arc::new(Shared { rules, tables: Mutex::new(tables) }))
    }

    /// Judges a newcomer whose address is proven or not.
    pub(crate) fn judge(&self, address: SocketAddr, proven: bool, now: Instant) -> Verdict {
        let source = Source::of(address);
        let rules = &self.0.rules;
        let mut tables = self.lock();
        let crowded = tables.under_way.get(&(source, proven)).is_some_and(|n| *n >= rules.handshakes);
        let overdrawn = match proven {
            true => tables.connections.entry(source).take(&rules.connections, now).is_err(),
            false => {
                tables.connections.get(&source).is_some_and(|b| b.wait(&rules.connections, now).is_err())
            }
        };
        if crowded || overdrawn {
            return if proven { Verdict::Refuse } else { Verdict::Prove };
        }
        *tables.under_way.entry((source, proven)).or_default() += 1;
        Verdict::Come(UnderWay { sources: self.clone(), source, proven })
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Every change is complete when the lock is let go.
        self.0.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handshake of a source, while it lives.
#[derive(Debug)]
pub(crate) struct UnderWay {
    sources: Sources,
    source: Source,
    proven: bool,
}

impl UnderWay {
    /// The handshake is done, and with it the address is proven: the connection counts.
    pub(crate) fn done(self, now: Instant) {
        if !self.proven {
            let rate = self.sources.0.rules.connections;
            // Over the rate is no reason to throw away a finished handshake; the next one waits.
            let _ = self.sources.lock().connections.entry(self.source).take(&rate, now);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut tables = self.sources.lock();
        if let Some(count) = tables.under_way.get_mut(&(self.source, self.proven)) {
            *count -= 1;
            if *count == 0 {
                tables.under_way.remove(&(self.source, self.proven));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: SourceRules = SourceRules { handshakes: 2, connections: Rate::per_second(3) };

    fn v4(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 1000).into()
    }

    fn come(sources: &Sources, address: SocketAddr, proven: bool, now: Instant) -> Option<UnderWay> {
        match sources.judge(address, proven, now) {
            Verdict::Come(under_way) => Some(under_way),
            Verdict::Prove | Verdict::Refuse => None,
        }
    }

    #[test]
    fn one_source_has_so_many_handshakes_and_others_are_not_affected() {
        let (sources, now) = (Sources::new(RULES, 100), Instant::now());
        let first = come(&sources, v4(1), true, now).unwrap();
        let _second = come(&sources, v4(1), true, now).unwrap();
        assert!(matches!(sources.judge(v4(1), true, now), Verdict::Refuse));
        assert!(matches!(sources.judge(v4(2), true, now), Verdict::Come(_)));
        drop(first);
        let later = now + std::time::Duration::from_secs(1);
        assert!(matches!(sources.judge(v4(1), true, later), Verdict::Come(_)));
    }

    #[test]
    fn a_forger_can_only_have_the_owner_of_an_address_asked_for_a_proof() {
        let (sources, now) = (Sources::new(RULES, 100), Instant::now());
        let forged: Vec<_> = (0..100).filter_map(|_| come(&sources, v4(1), false, now)).collect();
        assert_eq!(forged.len(), 2);
        assert!(matches!(sources.judge(v4(1), false, now), Verdict::Prove));
        assert!(matches!(sources.judge(v4(1), true, now), Verdict::Come(_)), "the owner comes in");
    }

    #[test]
    fn forged_addresses_leave_no_trace() {
        let (sources, now) = (Sources::new(RULES, 100), Instant::now());
        for n in 0..10_000_u32 {
            let address = SocketAddr::from((Ipv4Addr::from(n), 1));
            drop(sources.judge(address, false, now));
        }
        let tables = sources.lock();
        assert_eq!((tables.connections.len(), tables.under_way.len()), (0, 0));
    }

    #[test]
    fn the_table_of_proven_addresses_is_bounded_too() {
        let (sources, now) = (Sources::new(RULES, 100), Instant::now());
        for n in 0..10_000_u32 {
            let address = SocketAddr::from((Ipv4Addr::from(n), 1));
            drop(sources.judge(address, true, now));
        }
        assert!(sources.lock().connections.len() <= 100);
    }

    #[test]
    fn connections_are_counted_once_their_address_is_proven() {
        let (sources, now) = (Sources::new(RULES, 100), Instant::now());
        for _ in 0..3 {
            // Not asked for a proof: the handshake itself is one.
            come(&sources, v4(1), false, now).unwrap().done(now);
        }
        assert!(matches!(sources.judge(v4(1), false, now), Verdict::Prove));
        assert!(matches!(sources.judge(v4(1), true, now), Verdict::Refuse));
        let later = now + std::time::Duration::from_secs(1);
        assert!(matches!(sources.judge(v4(1), true, later), Verdict::Come(_)));
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one_source_whatever_address_it_chooses() {
        let of = |text: &str| Source::of(SocketAddr::new(text.parse().unwrap(), 1));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
