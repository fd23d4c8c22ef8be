//! The order in which several sides are measured.

use crate::bench::statistics::median;

/// Measures `sides` sides `times` times, another one first each time: what drifts (clock, heat, a neighbour) then
/// falls on all. The median of each side.
pub(super) fn medians(times: usize, sides: usize, mut measure: impl FnMut(usize) -> f64) -> Vec<f64> {
    let mut all = vec![Vec::with_capacity(times); sides];
    for time in 0..times {
        for step in 0..sides {
            let side = (time + step) % sides;
            all[side].push(measure(side));
        }
    }
    all.iter().map(|values| median(values)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_side_is_first_each_time_and_each_has_its_own_median() {
        let mut order = String::new();
        let medians = medians(3, 3, |side| {
            order.push(char::from(b'a' + u8::try_from(side).unwrap()));
            side as f64
        });
        assert_eq!((order.as_str(), medians), ("abcbcacab", vec![0.0, 1.0, 2.0]));
    }
}
