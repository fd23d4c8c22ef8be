//! Medians and percentiles, and the order in which two sides are measured.

/// The middle value; the mean of the two middle ones for an even count.
///
/// # Panics
/// Without a value.
pub(crate) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// The value that `share` of all are not above (nearest rank: an observed value, never an interpolated one).
///
/// # Panics
/// Without a value.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let sorted = sorted(values);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn sorted(values: &[f64]) -> Vec<f64> {
    assert!(!values.is_empty(), "nothing was measured");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Measures two sides `times` times, in turns, and each first every other time: what drifts (clock, heat, a
/// neighbour) then falls on both.
pub(crate) async fn in_turns(
    times: usize,
    mut ours: impl AsyncFnMut(usize) -> f64,
    mut theirs: impl AsyncFnMut(usize) -> f64,
) -> (Vec<f64>, Vec<f64>) {
    let (mut left, mut right) = (Vec::with_capacity(times), Vec::with_capacity(times));
    for time in 0..times {
        if time % 2 == 0 {
            left.push(ours(time).await);
            right.push(theirs(time).await);
        } else {
            right.push(theirs(time).await);
            left.push(ours(time).await);
        }
    }
    (left, right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_of_an_even_count_the_mean_of_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_seen() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.99), 198.0);
        assert_eq!(percentile(&values, 0.5), 100.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }

    #[tokio::test]
    async fn each_side_is_first_every_other_time() {
        let order = std::cell::RefCell::new(String::new());
        let side = |name: char| {
            let order = &order;
            async move |time: usize| {
                order.borrow_mut().push(name);
                time as f64
            }
        };
        let (left, right) = in_turns(3, side('a'), side('b')).await;
        assert_eq!(*order.borrow(), "abbaab");
        assert_eq!((left, right), (vec![0.0, 1.0, 2.0], vec![0.0, 1.0, 2.0]));
    }
}
