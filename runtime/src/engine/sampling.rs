//! How the next token is chosen: checked settings, and the choice itself.

use std::sync::Arc;

use super::EngineError;
use super::logits::Row;
use crate::constraint::Constraint;
use crate::llama::{Model, Penalties, Random, Sampler, SamplerSettings, Token};

/// The sampling options of a request, as they came. The default is greedy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Sampling {
    /// 0: greedy.
    pub(crate) temperature: f32,
    /// 0: off.
    pub(crate) top_k: u32,
    /// 0: off.
    pub(crate) top_p: f32,
    /// 0: off.
    pub(crate) min_p: f32,
    /// 0 or 1: off.
    pub(crate) repeat_penalty: f32,
    /// 0: off.
    pub(crate) presence_penalty: f32,
    /// 0: off.
    pub(crate) frequency_penalty: f32,
    /// `None`: random.
    pub(crate) seed: Option<u64>,
}

impl Sampling {
    /// Values that make no sense would reach C as undefined behaviour or an abort.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        let within = |value: f32, most: f32| (0.0..=most).contains(&value);
        if !within(self.temperature, 100.0) {
            return Err(EngineError::BadRequest("the temperature is not between 0 and 100"));
        }
        if !within(self.top_p, 1.0) || !within(self.min_p, 1.0) {
            return Err(EngineError::BadRequest("top_p and min_p are shares between 0 and 1"));
        }
        if !within(self.repeat_penalty, 100.0) {
            return Err(EngineError::BadRequest("the repeat penalty is not between 0 and 100"));
        }
        if !within(self.presence_penalty.abs(), 2.0) || !within(self.frequency_penalty.abs(), 2.0) {
            return Err(EngineError::BadRequest("presence and frequency penalties are not between -2 and 2"));
        }
        Ok(())
    }

    fn settings(&self) -> SamplerSettings {
        let on = |value: f32| (value > 0.0).then_some(value);
        let penalties = Penalties {
            repeat: on(self.repeat_penalty).unwrap_or(1.0),
            presence: self.presence_penalty,
            frequency: self.frequency_penalty,
        };
        let changes_nothing = Penalties { repeat: 1.0, presence: 0.0, frequency: 0.0 };
        SamplerSettings {
            penalties: (penalties != changes_nothing).then_some(penalties),
            random: on(self.temperature).map(|temperature| Random {
                temperature,
                top_k: (self.top_k > 0).then(|| i32::try_from(self.top_k).unwrap_or(i32::MAX)),
                top_p: on(self.top_p),
                min_p: on(self.min_p),
                seed: self.seed.map(fold),
            }),
        }
    }
}

/// 64 bits of seed into llama.cpp's 32, avoiding the one value that means "random".
fn fold(seed: u64) -> u32 {
    let folded = (seed ^ (seed >> 32)) as u32;
    if folded == u32::MAX { 0 } else { folded }
}

/// Chooses tokens for one request.
pub(super) struct Picker {
    model: Arc<Model>,
    /// llama.cpp's samplers; `None`: the likeliest, found while the logits are read anyway.
    sampler: Option<Sampler>,
    /// What the answer is held to, and the row with everything else made impossible.
    constraint: Option<(Constraint, Vec<f32>)>,
}

/// A chosen token and the natural logarithm of its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pick {
    pub(super) token: Token,
    pub(super) logprob: f32,
}

impl Picker {
    /// The penalties count the prompt's tokens too.
    pub(super) fn new(
        model: &Arc<Model>,
        sampling: &Sampling,
        constraint: Option<Constraint>,
        prompt: &[Token],
    ) -> Result<Self, EngineError> {
        let settings = sampling.settings();
        let sampler = if settings.random.is_none() && settings.penalties.is_none() {
            None
        } else {
            let mut sampler = Sampler::new(model, settings)?;
            for token in prompt {
                sampler.accept(*token);
            }
            Some(sampler)
        };
        let constraint = constraint.map(|constraint| (constraint, Vec::new()));
        Ok(Self { model: Arc::clone(model), sampler, constraint })
    }

    /// Chooses by a row of logits, which is what `row` was read from.
    pub(super) fn pick(&mut self, logits: &[f32], row: &Row<'_>) -> Result<Pick, EngineError> {
        let (choices, best) = match &mut self.constraint {
            None => (logits, row.best),
            Some((constraint, masked)) => {
                masked.clear();
                masked.extend_from_slice(logits);
                constraint.allowed()?.mask(masked);
                let best = Row::read(masked).ok_or(EngineError::NotFinite)?.best;
                (masked.as_slice(), best)
            }
        };
        let token = match &mut self.sampler {
            None => self.model.token(best).ok_or(EngineError::NotFinite)?,
            Some(sampler) => sampler.sample(choices)?,
        };
        if let Some((constraint, _)) = &mut self.constraint {
            constraint.accept(u32::try_from(token.index()).unwrap_or(u32::MAX))?;
        }
        Ok(Pick { token, logprob: row.logprob(token.index()) })
    }

    /// Whether the answer is complete in its shape, so that no token may follow.
    pub(super) fn is_complete(&self) -> bool {
        self.constraint.as_ref().is_some_and(|(constraint, _)| constraint.is_finished())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_is_greedy_without_penalty() {
        let settings = Sampling::default().settings();
        assert_eq!(settings, SamplerSettings { penalties: None, random: None });
        let penalty_of_one = Sampling { repeat_penalty: 1.0, ..Sampling::default() };
        assert_eq!(penalty_of_one.settings(), settings);
    }

    #[test]
    fn one_penalty_leaves_the_others_off() {
        let sampling = Sampling { presence_penalty: -0.5, ..Sampling::default() };
        let expected = Penalties { repeat: 1.0, presence: -0.5, frequency: 0.0 };
        assert_eq!(sampling.settings().penalties, Some(expected));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        let good = Sampling { temperature: 0.7, top_p: 0.9, min_p: 0.05, ..Sampling::default() };
        assert!(good.check().is_ok());
        assert!(Sampling { presence_penalty: -2.0, frequency_penalty: 2.0, ..good }.check().is_ok());
        for bad in [
            Sampling { temperature: f32::NAN, ..good },
            Sampling { temperature: -1.0, ..good },
            Sampling { top_p: 1.1, ..good },
            Sampling { min_p: f32::INFINITY, ..good },
            Sampling { repeat_penalty: -0.5, ..good },
            Sampling { presence_penalty: 2.1, ..good },
            Sampling { frequency_penalty: f32::NAN, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_seed_of_ours_means_random_to_llama() {
        assert_eq!(fold(7), 7);
        assert_ne!(fold(u64::from(u32::MAX)), u32::MAX);
        assert_ne!(fold(1 << 40), fold(2 << 40));
    }
}
