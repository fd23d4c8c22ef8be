//! How big a run is. The defaults are what the promises are about; smaller runs are for working on the bench.

use nix::sys::resource::{Resource, getrlimit};

/// Files that a process needs beside its connections.
const OTHER_FILES: usize = 200;

#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Repetitions of everything that is repeated.
    pub(super) times: usize,
    /// Idle devices.
    pub(super) devices: usize,
}

impl Scale {
    /// `BENCH_TIMES` and `BENCH_DEVICES`.
    pub(super) fn of_environment() -> Self {
        let number = |name: &str, usual: usize| match std::env::var(name) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
            Err(_) => usual,
        };
        let scale = Self { times: number("BENCH_TIMES", 5), devices: number("BENCH_DEVICES", 20_000) };
        assert!(scale.times > 0 && scale.devices >= 100, "too small to mean anything: {scale:?}");
        scale
    }

    /// At most so many of those that are not idle.
    pub(super) fn devices_at_most(self, most: usize) -> usize {
        self.devices.min(most)
    }

    /// As many connections as a peer may hold that needs a file for each.
    pub(super) fn connections(self) -> usize {
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("it has no way to fail");
        self.devices.min(usize::try_from(soft).unwrap_or(usize::MAX).saturating_sub(OTHER_FILES))
    }
}
