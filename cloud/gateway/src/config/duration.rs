//! Durations in the configuration.

use std::time::Duration;

use serde::Deserialize;

/// Any longer one is a mistake.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A duration such as `"500ms"`, `"10s"`, `"5m"` or `"1h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct DurationText(pub(super) Duration);

impl TryFrom<String> for DurationText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match crate::duration::parse(&text) {
            Ok(duration) if duration <= LONGEST => Ok(Self(duration)),
            Ok(_) => Err(format!("{text:?} is longer than a day")),
            Err(why) => Err(format!("{text:?} is no duration: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Duration> {
        DurationText::try_from(text.to_owned()).ok().map(|DurationText(duration)| duration)
    }

    #[test]
    fn a_number_and_a_unit_are_a_duration() {
        let seconds = ["500ms", "10s", "5m", "24h", "1d", "0s"].map(|text| read(text).unwrap().as_secs_f64());
        assert_eq!(seconds, [0.5, 10.0, 300.0, 86_400.0, 86_400.0, 0.0]);
    }

    #[test]
    fn anything_else_is_not() {
        for text in
            ["", "10", "s", "-1s", "1.5s", "25h", "10 seconds", "99999999999999999999s", "4294967295h"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
