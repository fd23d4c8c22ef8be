//! How sure the local model is of the beginning of its answer.

use synesis_proto::runtime::v1::Finished;

use crate::route::{Evidence, ppm};

/// Looks at the log probabilities of an answer's first tokens, once.
#[derive(Debug)]
pub(super) struct Look {
    wanted: u32,
    seen: u32,
    sum: f64,
}

impl Look {
    pub(super) fn at(wanted: u32) -> Self {
        Self { wanted, seen: 0, sum: 0.0 }
    }

    /// The evidence, as soon as there are enough.
    pub(super) fn add(&mut self, logprobs: &[f32]) -> Option<Evidence> {
        for logprob in logprobs.iter().take(self.wanted.saturating_sub(self.seen) as usize) {
            self.seen += 1;
            self.sum += f64::from(*logprob);
        }
        (self.wanted > 0 && self.seen == self.wanted).then(|| {
            self.wanted = 0;
            confidence(self.seen, self.sum / f64::from(self.seen))
        })
    }

    /// The evidence of an answer that was shorter, or came without its tokens' log probabilities.
    pub(super) fn end(self, end: &Finished) -> Option<Evidence> {
        if self.wanted == 0 {
            return None;
        }
        Some(match (self.seen, end.output_tokens) {
            // Nothing was said: nothing to be sure of.
            (0, 0) => confidence(0, f64::NEG_INFINITY),
            (0, tokens) => confidence(tokens, f64::from(end.mean_logprob)),
            (seen, _) => confidence(seen, self.sum / f64::from(seen)),
        })
    }
}

/// The exponential of the mean log probability, in millionths.
fn confidence(tokens: u32, mean_logprob: f64) -> Evidence {
    Evidence::Confidence { tokens, confidence_ppm: ppm(mean_logprob.exp()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sure(tokens: u32, confidence_ppm: u32) -> Option<Evidence> {
        Some(Evidence::Confidence { tokens, confidence_ppm })
    }

    #[test]
    fn exactly_the_first_tokens_are_looked_at_and_only_once() {
        let half = 0.5_f32.ln();
        let mut look = Look::at(3);
        assert_eq!(look.add(&[half]), None);
        assert_eq!(
            look.add(&[half, half, 0.0, 0.0]),
            sure(3, 500_000),
            "what comes with the third token is not"
        );
        assert_eq!(look.add(&[half]), None);
        assert_eq!(look.end(&Finished::default()), None);
    }

    #[test]
    fn a_short_answer_is_looked_at_as_a_whole() {
        let mut look = Look::at(24);
        assert_eq!(look.add(&[0.25_f32.ln(), 1.0_f32.ln()]), None);
        assert_eq!(look.end(&Finished { output_tokens: 2, ..Finished::default() }), sure(2, 500_000));
    }

    #[test]
    fn without_the_tokens_log_probabilities_the_mean_of_the_whole_answer_counts() {
        let end = Finished { output_tokens: 9, mean_logprob: 0.5_f32.ln(), ..Finished::default() };
        assert_eq!(Look::at(24).end(&end), sure(9, 500_000));
    }

    #[test]
    fn an_empty_answer_is_nothing_to_be_sure_of() {
        assert_eq!(Look::at(24).end(&Finished::default()), sure(0, 0));
        let end = Finished { output_tokens: 1, mean_logprob: f32::NAN, ..Finished::default() };
        assert_eq!(Look::at(24).end(&end), sure(1, 0));
    }

    #[test]
    fn nobody_looks_when_nothing_is_wanted() {
        let mut look = Look::at(0);
        assert_eq!(look.add(&[-1.0]), None);
        assert_eq!(look.end(&Finished { output_tokens: 5, ..Finished::default() }), None);
    }
}
