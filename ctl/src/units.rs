//! Numbers for people and for scripts. The contract has integers for time, so measured milliseconds are rounded
//! up: what took time never reads as zero. Where the fraction matters the JSON has microseconds beside them.

/// Whole milliseconds, rounded up. What is no number, or negative, is 0.
pub(crate) fn whole_ms(ms: f64) -> u64 {
    // `as` saturates, and turns NaN into 0.
    ms.ceil() as u64
}

/// Whole microseconds, rounded to the nearest.
pub(crate) fn whole_us(ms: f64) -> u64 {
    (ms * 1_000.0).round() as u64
}

/// A duration for people: `0.3 ms`, `87 ms`, `1.4 s`.
pub(crate) fn duration(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1_000.0),
    }
}

/// A size for people, in powers of ten: `873 B`, `2.1 MB`.
pub(crate) fn bytes(count: u64) -> String {
    const STEPS: [(&str, f64); 4] = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let size = count as f64;
    STEPS
        .iter()
        .find(|(_, step)| size >= *step)
        .map_or_else(|| format!("{count} B"), |(unit, step)| format!("{:.1} {unit}", size / step))
}

/// A fraction as a percentage: `37 %`.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}

/// Seconds as `3d 4h`, `2h 5m`, `7m 3s`.
pub(crate) fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m {}s", seconds % 60),
        (0, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_whole_and_never_zero_for_something_measured() {
        for (ms, whole) in
            [(0.0, 0), (0.04, 1), (1.0, 1), (1.2, 2), (-3.0, 0), (f64::NAN, 0), (f64::INFINITY, u64::MAX)]
        {
            assert_eq!(whole_ms(ms), whole, "{ms}");
        }
        assert_eq!(whole_us(0.0424), 42);
    }

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!([bytes(0), bytes(999), bytes(2_140_000)], ["0 B", "999 B", "2.1 MB"]);
        assert_eq!([duration(0.3), duration(87.2), duration(1_400.0)], ["0.3 ms", "87 ms", "1.4 s"]);
        assert_eq!([uptime(423), uptime(7_500), uptime(273_600)], ["7m 3s", "2h 5m", "3d 4h"]);
    }
}
