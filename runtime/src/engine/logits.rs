//! Reading a row of logits: the likeliest token, and how likely a token is.

use crate::llama::{Context, LlamaError, Token};

/// Terms this far below the largest are left out of the sum. Together they are at most vocabulary x e^-20,
/// that is 0.0005 for 262,144 tokens, and leaving them out makes the sum several times cheaper.
const NEGLIGIBLE: f32 = -20.0;

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
        let mut best = 0;
        let mut largest = f32::NEG_INFINITY;
        for (index, logit) in logits.iter().enumerate() {
            if *logit > largest {
                largest = *logit;
                best = index;
            }
        }
        if !largest.is_finite() {
            return None;
        }
        let mut sum = 0.0_f32;
        for logit in logits {
            let distance = logit - largest;
            // A NaN is not below anything, gets into the sum, and stays there.
            if distance < NEGLIGIBLE {
                continue;
            }
            sum += distance.exp();
        }
        let log_sum = largest + sum.ln();
        log_sum.is_finite().then_some(Self { logits, best, log_sum })
    }

    /// Natural logarithm of the model's own probability of a token, before any sampler changed it.
    pub(super) fn logprob(&self, index: usize) -> f32 {
        self.logits.get(index).map_or(f32::NEG_INFINITY, |logit| logit - self.log_sum)
    }
}

/// Decodes `tokens` as a fresh sequence and looks whether the outcome is numbers. The sequence is cleared
/// again.
pub(super) fn are_finite_after(context: &mut Context, tokens: &[Token]) -> Result<bool, LlamaError> {
    context.clear();
    context.decode(tokens)?;
    let finite = Row::read(context.logits()?).is_some();
    if finite {
        context.clear();
    } else {
        context.wipe();
    }
    Ok(finite)
}

#[cfg(test)]
mod tests {
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
    fn rows_that_are_not_numbers_are_noticed() {
        assert_eq!(Row::read(&[0.0, f32::NAN]), None);
        assert_eq!(Row::read(&[f32::NAN, 0.0]), None);
        assert_eq!(Row::read(&[0.0, f32::INFINITY]), None);
        assert_eq!(Row::read(&[f32::NEG_INFINITY]), None);
        assert_eq!(Row::read(&[]), None);
    }
}
