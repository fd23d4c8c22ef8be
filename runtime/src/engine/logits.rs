//! Reading a row of logits: the likeliest token, and how likely a token is. It is done for every token, so it is
//! written for the compiler to vectorise.

/// Lanes that are reduced side by side; a multiple of what any CPU has.
const LANES: usize = 16;
/// e to this is about the smallest normal float; beside a largest term of one it is nothing.
const LEAST_EXPONENT: f32 = -87.0;

/// A row of logits, reduced to what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row<'a> {
    logits: &'a [f32],
    /// Index of the largest; the first of equals, as llama.cpp's own greedy sampler does.
    pub(super) best: usize,
    log_sum: f32,
}

impl<'a> Row<'a> {
    /// `None` when a value is not a number, or none is finite. Minus infinity is a token that cannot come.
    pub(super) fn read(logits: &'a [f32]) -> Option<Self> {
        let largest = largest(logits);
        if !largest.is_finite() {
            return None;
        }
        let log_sum = largest + sum_of_exponentials(logits, largest).ln();
        if !log_sum.is_finite() {
            return None;
        }
        let best = logits.iter().position(|logit| *logit >= largest)?;
        Some(Self { logits, best, log_sum })
    }

    /// Natural logarithm of the model's own probability of a token, before any sampler changed it.
    pub(super) fn logprob(&self, index: usize) -> f32 {
        self.logits.get(index).map_or(f32::NEG_INFINITY, |logit| logit - self.log_sum)
    }

    /// The likeliest tokens that can come at all, at most `count`, in falling order; of equals the first.
    pub(super) fn top(&self, count: usize) -> Vec<(usize, f32)> {
        let mut top: Vec<(usize, f32)> = Vec::with_capacity(count + 1);
        for (index, logit) in self.logits.iter().copied().enumerate() {
            let is_among = top.len() < count || top.last().is_some_and(|(_, least)| logit > *least);
            if count == 0 || !is_among || logit == f32::NEG_INFINITY {
                continue;
            }
            let place = top.partition_point(|(_, other)| *other >= logit);
            top.insert(place, (index, logit));
            top.truncate(count);
        }
        top.into_iter().map(|(index, logit)| (index, logit - self.log_sum)).collect()
    }
}

/// A NaN is not larger than anything; the sum finds it.
fn largest(logits: &[f32]) -> f32 {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, logit) in lanes.iter_mut().zip(chunk) {
            *lane = if *logit > *lane { *logit } else { *lane };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, |most, logit| if logit > most { logit } else { most })
}

fn sum_of_exponentials(logits: &[f32], largest: f32) -> f32 {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        for (lane, logit) in lanes.iter_mut().zip(chunk) {
            *lane += exponential(*logit - largest);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|logit| exponential(logit - largest)).sum::<f32>()
}

/// e to the `x`, for `x` up to zero, within two units of the seventh digit: without branches or calls, which
/// would keep it from being vectorised. Cephes' method: 2^n times a polynomial in the rest.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    /// Adding it leaves the whole number in the lowest bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2, as a part with few bits and the rest.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Not `max`, which would lose a NaN.
    let x = if x < LEAST_EXPONENT { LEAST_EXPONENT } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = x - whole * LN2[0] - whole * LN2[1];
    let mut power = 1.987_569_1e-4_f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        power = power * rest + coefficient;
    }
    power = power * rest * rest + rest + 1.0;
    // The bits of `ROUND` are 0x4B40_0000; the exponent of a float begins at bit 23 with a bias of 127.
    let exponent = shifted.to_bits().wrapping_sub(0x4B40_0000).wrapping_add(127) << 23;
    power * f32::from_bits(exponent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn probabilities_sum_to_one() {
        let logits = [1.0, 3.0, 3.0, -2.0, f32::NEG_INFINITY];
        let row = Row::read(&logits).unwrap();
        assert_eq!(row.best, 1);
        let sum: f32 = (0..logits.len()).map(|index| row.logprob(index).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }

    #[test]
    fn rows_that_are_not_numbers_are_noticed_wherever_they_are() {
        for place in [0, 7, 16, 31, 33] {
            let mut logits = vec![0.5; 34];
            logits[place] = f32::NAN;
            assert_eq!(Row::read(&logits), None, "{place}");
            logits[place] = f32::INFINITY;
            assert_eq!(Row::read(&logits), None, "{place}");
        }
        assert_eq!(Row::read(&[f32::NEG_INFINITY]), None);
        assert_eq!(Row::read(&[]), None);
    }

    #[test]
    fn the_likeliest_come_in_order_and_impossible_ones_never() {
        let logits = [1.0, 5.0, f32::NEG_INFINITY, 5.0, 2.0];
        let row = Row::read(&logits).unwrap();
        let places = |count| row.top(count).iter().map(|(index, _)| *index).collect::<Vec<_>>();
        assert_eq!(places(0), [0_usize; 0]);
        assert_eq!(places(3), [1, 3, 4]);
        assert_eq!(places(9), [1, 3, 4, 0]);
        assert_eq!(row.top(1)[0].1, row.logprob(1));
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_plain_way(logits in proptest::collection::vec(-60.0_f32..60.0, 1..200)) {
            let row = Row::read(&logits).unwrap();
            let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            prop_assert_eq!(row.best, logits.iter().position(|logit| *logit == largest).unwrap());
            let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
            let expected = f64::from(largest) + sum.ln();
            prop_assert!((f64::from(row.log_sum) - expected).abs() < 1e-4, "{} {}", row.log_sum, expected);
        }

        #[test]
        fn an_exponential_is_one(x in -87.0_f32..=0.0) {
            let expected = f64::from(x).exp();
            prop_assert!((f64::from(exponential(x)) - expected).abs() <= expected * 3e-7);
        }
    }
}
