//! llama.cpp's chain of samplers, for everything but plain greedy decoding.

use std::ptr::NonNull;
use std::sync::Arc;

use super::{Context, LlamaError, Model, Token, sys};

/// Tokens the repeat penalty looks back (llama.cpp's own default).
const PENALTY_WINDOW: i32 = 64;

/// What the chain does. Values are checked by the caller; `None` leaves the step out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SamplerSettings {
    pub(crate) repeat_penalty: Option<f32>,
    /// `None` picks the likeliest token after the penalty.
    pub(crate) random: Option<Random>,
}

/// How a token is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Random {
    pub(crate) temperature: f32,
    pub(crate) top_k: Option<i32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) min_p: Option<f32>,
    /// `None` asks the operating system.
    pub(crate) seed: Option<u32>,
}

/// `LLAMA_DEFAULT_SEED`: draws a seed from the operating system. As a macro with a cast it has no binding.
const SEED_FROM_SYSTEM: u32 = u32::MAX;

/// A chain of samplers with the memory of what it saw.
pub(crate) struct Sampler {
    chain: NonNull<sys::llama_sampler>,
    /// The penalty counts tokens by number.
    model: Arc<Model>,
}

impl Sampler {
    pub(crate) fn new(model: &Arc<Model>, settings: SamplerSettings) -> Result<Self, LlamaError> {
        // SAFETY: takes a plain struct; the result is null or a chain that we own.
        let chain = unsafe { sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params()) };
        let chain = NonNull::new(chain).ok_or(LlamaError::Sampler)?;
        let sampler = Self { chain, model: Arc::clone(model) };
        let vocabulary = i32::try_from(model.vocabulary_size()).map_err(|_| LlamaError::Sampler)?;
        if let Some(penalty) = settings.repeat_penalty {
            // SAFETY: plain numbers, the penalty is above zero.
            sampler.add(unsafe {
                sys::llama_sampler_init_penalties(vocabulary, PENALTY_WINDOW, penalty, 0.0, 0.0)
            })?;
        }
        let Some(random) = settings.random else {
            // SAFETY: takes nothing.
            sampler.add(unsafe { sys::llama_sampler_init_greedy() })?;
            return Ok(sampler);
        };
        if let Some(count) = random.top_k {
            // SAFETY: a plain number.
            sampler.add(unsafe { sys::llama_sampler_init_top_k(count) })?;
        }
        if let Some(mass) = random.top_p {
            // SAFETY: plain numbers.
            sampler.add(unsafe { sys::llama_sampler_init_top_p(mass, 1) })?;
        }
        if let Some(share) = random.min_p {
            // SAFETY: plain numbers.
            sampler.add(unsafe { sys::llama_sampler_init_min_p(share, 1) })?;
        }
        // SAFETY: plain numbers.
        sampler.add(unsafe { sys::llama_sampler_init_temp(random.temperature) })?;
        // SAFETY: a plain number.
        sampler.add(unsafe { sys::llama_sampler_init_dist(random.seed.unwrap_or(SEED_FROM_SYSTEM)) })?;
        Ok(sampler)
    }

    /// Tells the chain about a token that it did not choose itself (the prompt's).
    pub(crate) fn accept(&mut self, token: Token) {
        // SAFETY: the chain is alive, and `Token`s are inside the vocabulary.
        unsafe { sys::llama_sampler_accept(self.chain.as_ptr(), token.0) };
    }

    /// Chooses the next token and remembers it. The logits must be free of NaN.
    pub(crate) fn sample(&mut self, context: &Context) -> Result<Token, LlamaError> {
        if !Arc::ptr_eq(context.model(), &self.model) {
            return Err(LlamaError::Sampler);
        }
        context.logits()?;
        // SAFETY: chain and context are alive and of one model, and the context has logits at its last
        // output: the library aborts without.
        let number = unsafe { sys::llama_sampler_sample(self.chain.as_ptr(), context.raw(), -1) };
        usize::try_from(number).ok().and_then(|index| self.model.token(index)).ok_or(LlamaError::Sampler)
    }

    fn add(&self, step: *mut sys::llama_sampler) -> Result<(), LlamaError> {
        let step = NonNull::new(step).ok_or(LlamaError::Sampler)?;
        // SAFETY: both are alive, and the chain takes the step over.
        unsafe { sys::llama_sampler_chain_add(self.chain.as_ptr(), step.as_ptr()) };
        Ok(())
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: we own the chain, which frees its steps.
        unsafe { sys::llama_sampler_free(self.chain.as_ptr()) };
    }
}
