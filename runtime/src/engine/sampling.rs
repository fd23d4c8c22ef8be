//! How the next token is chosen: checked settings, and the choice itself.

use std::sync::Arc;

use super::EngineError;
use super::logits::Row;
use crate::llama::{Context, Model, Random, Sampler, SamplerSettings, Token};

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
        Ok(())
    }

    fn settings(&self) -> SamplerSettings {
        let on = |value: f32| (value > 0.0).then_some(value);
        SamplerSettings {
            repeat_penalty: on(self.repeat_penalty).filter(|penalty| (penalty - 1.0).abs() > f32::EPSILON),
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
pub(super) enum Picker {
    /// The likeliest, found while the logits are read anyway.
    Greedy(Arc<Model>),
    /// llama.cpp's samplers.
    Chain(Sampler),
}

/// A chosen token and the natural logarithm of its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pick {
    pub(super) token: Token,
    pub(super) logprob: f32,
}

impl Picker {
    /// The repeat penalty counts the prompt's tokens too.
    pub(super) fn new(
        model: &Arc<Model>,
        sampling: &Sampling,
        prompt: &[Token],
    ) -> Result<Self, EngineError> {
        let settings = sampling.settings();
        if settings.random.is_none() && settings.repeat_penalty.is_none() {
            return Ok(Self::Greedy(Arc::clone(model)));
        }
        let mut sampler = Sampler::new(model, settings)?;
        for token in prompt {
            sampler.accept(*token);
        }
        Ok(Self::Chain(sampler))
    }

    pub(super) fn pick(&mut self, context: &Context) -> Result<Pick, EngineError> {
        let row = Row::read(context.logits()?).ok_or(EngineError::NotFinite)?;
        let (token, index) = match self {
            Self::Greedy(model) => (model.token(row.best).ok_or(EngineError::NotFinite)?, row.best),
            Self::Chain(sampler) => {
                let token = sampler.sample(context)?;
                (token, token.index())
            }
        };
        Ok(Pick { token, logprob: row.logprob(index) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_is_greedy_without_penalty() {
        let settings = Sampling::default().settings();
        assert_eq!(settings, SamplerSettings { repeat_penalty: None, random: None });
        let penalty_of_one = Sampling { repeat_penalty: 1.0, ..Sampling::default() };
        assert_eq!(penalty_of_one.settings(), settings);
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        let good = Sampling { temperature: 0.7, top_p: 0.9, min_p: 0.05, ..Sampling::default() };
        assert!(good.check().is_ok());
        for bad in [
            Sampling { temperature: f32::NAN, ..good },
            Sampling { temperature: -1.0, ..good },
            Sampling { top_p: 1.1, ..good },
            Sampling { min_p: f32::INFINITY, ..good },
            Sampling { repeat_penalty: -0.5, ..good },
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
