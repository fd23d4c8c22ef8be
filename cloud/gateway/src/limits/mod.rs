//! What nobody may have too much of (docs/adr/0024): handshakes and connections of one address, connections and streams
//! of one device, time to read an answer.

mod bounded;
mod devices;
mod rate;
mod sources;

use std::time::Duration;

use synesis_mesh::kind::ErrorCode;
use synesis_proto::mesh::v1::Problem;

pub(crate) use devices::{Class, DeviceRates, Devices};
pub(crate) use rate::Rate;
pub(crate) use sources::{SourceRules, Sources, UnderWay, Verdict};

/// The numbers, as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Handshakes under way, of all sources together.
    pub(crate) handshakes: u32,
    pub(crate) source: SourceRules,
    pub(crate) device: DeviceRates,
    /// A device that reads nothing of an answer for this long loses it.
    pub(crate) unread: Duration,
}

#[cfg(test)]
impl Default for Rules {
    fn default() -> Self {
        crate::config::default_limits()
    }
}

/// Devices and addresses that are remembered, at most, for their rates. An entry takes about 100 bytes.
pub(crate) const REMEMBERED: usize = 65_536;

/// What a device is told that has to wait.
pub(crate) fn problem(class: Class, wait: Duration) -> Problem {
    let mut problem = ErrorCode::RateLimited.problem(
        format!("this device made too many {} in too short a time", class.plural()),
        format!("try again in {}", in_words(wait)),
    );
    problem.retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    problem
}

/// Rounded up, so that who comes back then does not come too early.
fn in_words(wait: Duration) -> String {
    let seconds = wait.as_millis().div_ceil(1000);
    match seconds {
        0 | 1 => "a second".to_owned(),
        2..120 => format!("{seconds} seconds"),
        _ => format!("{} minutes", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_has_to_wait_is_told_how_long() {
        let problem = problem(Class::Ask, Duration::from_millis(2_400));
        assert_eq!((problem.code, problem.retry_after_ms), (ErrorCode::RateLimited.number(), 2_401));
        assert_eq!(problem.message, "this device made too many escalated requests in too short a time");
        assert_eq!(problem.next_step, "try again in 3 seconds");
    }

    #[test]
    fn times_are_said_in_the_unit_people_use() {
        let said = [1, 1_001, 119_000, 120_001, 360_000].map(|ms| in_words(Duration::from_millis(ms)));
        assert_eq!(said, ["a second", "2 seconds", "119 seconds", "3 minutes", "6 minutes"]);
    }
}
