//! Lengths of time as people write them.

use std::time::Duration;

/// A whole number with its unit: `500ms`, `90s`, `30m`, `1h`, `7d`.
///
/// # Errors
/// What is wrong with it, for whoever wrote it.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("write a number and one of ms, s, m, h, d, for example 30m".to_owned()),
    };
    let count: u64 = digits.parse().map_err(|_| "write a whole number before the unit".to_owned())?;
    let millis = count.checked_mul(unit).ok_or("that is too long")?;
    Ok(Duration::from_millis(millis))
}
