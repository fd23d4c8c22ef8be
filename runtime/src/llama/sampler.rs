//! llama.cpp's chain of samplers, for everything but plain greedy decoding.

use std::ptr::NonNull;
use std::sync::Arc;

use super::{LlamaError, Model, Token, sys};

/// Tokens the penalties look back (llama.cpp's own default).
const PENALTY_WINDOW: i32 = 64;

/// What the chain does. Values are checked by the caller; `None` leaves the step out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SamplerSettings {
    pub(crate) penalties: Option<Penalties>,
    /// `None` picks the likeliest token after the penalties.
    pub(crate) random: Option<Random>,
}

/// What makes a token less likely that was there already.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Penalties {
    /// Divides; 1 changes nothing.
    pub(crate) repeat: f32,
    /// Subtracted once; 0 changes nothing.
    pub(crate) presence: f32,
    /// Subtracted as often as it was there; 0 changes nothing.
    pub(crate) frequency: f32,
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
    /// Reused from token to token: it has an entry for every token of the vocabulary.
    candidates: Vec<sys::llama_token_data>,
    /// The penalties count tokens by number.
    model: Arc<Model>,
}

impl Sampler {
    pub(crate) fn new(model: &Arc<Model>, settings: SamplerSettings) -> Result<Self, LlamaError> {
        // SAFETY: takes a plain struct; the result is null or a chain that we own.
        let chain = unsafe { sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params()) };
        let chain = NonNull::new(chain).ok_or(LlamaError::Sampler)?;
        let sampler = Self { chain, candidates: Vec::new(), model: Arc::clone(model) };
        let vocabulary = i32::try_from(model.vocabulary_size()).map_err(|_| LlamaError::Sampler)?;
        if let Some(Penalties { repeat, presence, frequency }) = settings.penalties {
            // SAFETY: plain numbers, the repeat penalty is above zero.
            sampler.add(unsafe {
                sys::llama_sampler_init_penalties(vocabulary, PENALTY_WINDOW, repeat, frequency, presence)
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

    /// Chooses the next token and remembers it. Minus infinity is a token that cannot come; NaN must not be
    /// among the logits.
    pub(crate) fn sample(&mut self, logits: &[f32]) -> Result<Token, LlamaError> {
        self.candidates.clear();
        let numbered = (0_i32..).zip(logits.iter().take(self.model.vocabulary_size()));
        self.candidates.extend(
            numbered
                .filter(|(_, logit)| **logit > f32::NEG_INFINITY)
                .map(|(id, logit)| sys::llama_token_data { id, logit: *logit, p: 0.0 }),
        );
        if self.candidates.is_empty() {
            return Err(LlamaError::Sampler);
        }
        let mut array = sys::llama_token_data_array {
            data: self.candidates.as_mut_ptr(),
            size: self.candidates.len(),
            selected: -1,
            sorted: false,
        };
        // SAFETY: the chain is alive; the array has at least one entry, all tokens in it are inside the
        // vocabulary, and it stays put during the call. Samplers only shorten it.
        unsafe { sys::llama_sampler_apply(self.chain.as_ptr(), &raw mut array) };
        let chosen = usize::try_from(array.selected).ok().filter(|place| *place < array.size);
        let chosen = chosen.and_then(|place| self.candidates.get(place)).ok_or(LlamaError::Sampler)?;
        let token = usize::try_from(chosen.id).ok().and_then(|index| self.model.token(index));
        let token = token.ok_or(LlamaError::Sampler)?;
        self.accept(token);
        Ok(token)
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
