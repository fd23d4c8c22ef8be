//! How long a command may take, and what ends it before: its time limit, which counts from the moment the daemon
//! is asked, or Ctrl-C. Both drop the work, which cancels the call at the daemon.

use std::future::Future;
use std::time::Duration;

use tokio::signal;
use tokio::time;

use crate::failure::Failure;

/// Runs `work` until it ends, `limit` has passed since `asked`, or the user presses Ctrl-C.
///
/// # Errors
/// Those of `work`; [`Failure::TimedOut`] and [`Failure::Interrupted`].
pub(crate) async fn bounded(
    limit: Option<Duration>,
    asked: impl Future<Output = ()>,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    tokio::select! {
        biased;
        failure = interrupted() => Err(failure),
        outcome = work => outcome,
        failure = expired(limit, asked) => Err(failure),
    }
}

async fn interrupted() -> Failure {
    match signal::ctrl_c().await {
        Ok(()) => Failure::Interrupted,
        // Without a handler of ours, Ctrl-C still ends the process the way the system does it.
        Err(_) => std::future::pending().await,
    }
}

async fn expired(limit: Option<Duration>, asked: impl Future<Output = ()>) -> Failure {
    match limit {
        Some(limit) => {
            asked.await;
            time::sleep(limit).await;
            Failure::TimedOut(limit)
        }
        None => std::future::pending().await,
    }
}

/// Reads `10`, `10s`, `250ms`, `2m` or `1h`. Zero means no limit, as it does for timeout(1).
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "expected a number and a unit, as in 10s".to_owned())?;
    let millis = match unit {
        "ms" => Some(number),
        "" | "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(format!("unknown unit {unit:?}; use ms, s, m or h")),
    };
    millis.map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}

/// A duration the way `--timeout` takes it.
pub(crate) fn display(duration: Duration) -> String {
    match duration.as_millis() {
        millis if millis % 1_000 == 0 => format!("{} s", millis / 1_000),
        millis => format!("{millis} ms"),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const LIMIT: Option<Duration> = Some(Duration::from_secs(10));

    #[test]
    fn durations_are_read_with_and_without_a_unit() {
        let table =
            [("10", 10_000), ("10s", 10_000), ("250ms", 250), ("2m", 120_000), ("1h", 3_600_000), ("0", 0)];
        for (text, millis) in table {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "s", "-1", "1.5s", "10 s", "3d", "99999999999999999999", "18446744073709551615h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_takes_too_long_is_dropped() {
        let outcome = bounded(LIMIT, ready(()), pending()).await;
        assert!(matches!(outcome, Err(Failure::TimedOut(limit)) if limit.as_secs() == 10));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_in_time_keeps_its_outcome() {
        let work = async {
            time::sleep(Duration::from_secs(9)).await;
            Err(Failure::EmptyPrompt)
        };
        assert!(matches!(bounded(LIMIT, ready(()), work).await, Err(Failure::EmptyPrompt)));
    }

    #[tokio::test(start_paused = true)]
    async fn time_before_the_daemon_is_asked_does_not_count() {
        let typing = Duration::from_secs(3_600);
        let work = async {
            time::sleep(typing + Duration::from_secs(9)).await;
            Ok(())
        };
        assert!(bounded(LIMIT, time::sleep(typing), work).await.is_ok());
        assert!(matches!(bounded(LIMIT, time::sleep(typing), pending()).await, Err(Failure::TimedOut(_))));
    }
}
