//! A context: the key-value cache of one sequence, and the adapter that is set.

use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::slice;
use std::sync::Arc;

use super::{Adapter, LlamaError, Model, Token, log, sys};

/// Tokens decoded at once. llama.cpp aborts on more than the context was made for.
pub(crate) const BATCH: usize = 512;

/// How a context is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContextSettings {
    /// Size of the window, prompt and answer together.
    pub(crate) tokens: u32,
    pub(crate) threads: u32,
}

/// What happens to the bytes of the cache when the sequence is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cache {
    /// Nothing; zeroing tens of megabytes would cost milliseconds for every request.
    Keep,
    Zero,
}

/// One sequence of tokens and the logits after its last one.
pub(crate) struct Context {
    raw: NonNull<sys::llama_context>,
    used: usize,
    capacity: usize,
    has_logits: bool,
    batch: Vec<sys::llama_token>,
    // Kept after `raw` is freed (see `Drop`): the context points into both.
    adapter: Option<(Rc<Adapter>, f32)>,
    model: Arc<Model>,
}

impl Context {
    pub(crate) fn new(model: &Arc<Model>, settings: ContextSettings) -> Result<Self, LlamaError> {
        log::clear_error();
        let threads = i32::try_from(settings.threads).unwrap_or(1);
        // SAFETY: returns a plain struct.
        let mut parameters = unsafe { sys::llama_context_default_params() };
        parameters.n_ctx = settings.tokens;
        parameters.n_batch = BATCH as u32;
        parameters.n_ubatch = BATCH as u32;
        parameters.n_seq_max = 1;
        parameters.n_threads = threads;
        parameters.n_threads_batch = threads;
        // Only separate buffers per sequence give bit-identical greedy output.
        parameters.kv_unified = false;
        // The whole sequence is decoded anew for every request, so old parts of a sliding window are not
        // needed.
        parameters.swa_full = false;
        parameters.no_perf = true;
        // SAFETY: the model is alive, and we keep it alive; the result is null or a context that we own.
        let raw = unsafe { sys::llama_init_from_model(model.raw.as_ptr(), parameters) };
        let raw = NonNull::new(raw).ok_or_else(|| LlamaError::Context { detail: log::take_error() })?;
        // SAFETY: `raw` is a live context.
        let made = unsafe { sys::llama_n_ctx_seq(raw.as_ptr()) };
        Ok(Self {
            raw,
            used: 0,
            // The library rounds up; the window is what was asked for.
            capacity: made.min(settings.tokens) as usize,
            has_logits: false,
            batch: Vec::with_capacity(BATCH),
            adapter: None,
            model: Arc::clone(model),
        })
    }

    /// Size of the window in tokens.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets the sequence. What it left in the cache is masked out from now on.
    pub(crate) fn clear(&mut self) {
        self.reset(Cache::Keep);
    }

    /// Forgets the sequence and zeroes the cache: a masked value counts zero times, but zero times NaN is
    /// NaN.
    pub(crate) fn wipe(&mut self) {
        self.reset(Cache::Zero);
    }

    fn reset(&mut self, cache: Cache) {
        // SAFETY: `raw` is a live context; its memory is null or a part of it, and null is allowed.
        unsafe {
            sys::llama_memory_clear(sys::llama_get_memory(self.raw.as_ptr()), cache == Cache::Zero);
        }
        self.used = 0;
        self.has_logits = false;
    }

    /// Sets the one adapter that is active, or none. The sequence is cleared: what was computed with another
    /// set of weights must not be continued.
    pub(crate) fn set_adapter(&mut self, adapter: Option<(Rc<Adapter>, f32)>) -> Result<(), LlamaError> {
        self.clear();
        let adapter = match adapter {
            Some((adapter, _)) if !adapter.belongs_to(&self.model) => {
                return Err(LlamaError::Adapter { detail: "it was loaded for another model".to_owned() });
            }
            other => other,
        };
        let (mut adapters, mut scales): (Vec<_>, Vec<f32>) =
            adapter.iter().map(|(adapter, scale)| (adapter.raw.as_ptr(), *scale)).unzip();
        // SAFETY: `raw` is a live context, both arrays have the length we name and are copied; the adapter
        // belongs to this context's model, and stays alive because we keep its `Rc` until another set
        // replaces it.
        let code = unsafe {
            sys::llama_set_adapters_lora(
                self.raw.as_ptr(),
                adapters.as_mut_ptr(),
                adapters.len(),
                scales.as_mut_ptr(),
            )
        };
        if code != 0 {
            return Err(LlamaError::Adapter { detail: format!("setting it failed with code {code}") });
        }
        self.adapter = adapter;
        Ok(())
    }

    /// Appends at most [`BATCH`] tokens to the sequence and computes the logits after the last one.
    pub(crate) fn decode(&mut self, tokens: &[Token]) -> Result<(), LlamaError> {
        if tokens.is_empty() || tokens.len() > BATCH || self.used + tokens.len() > self.capacity {
            return Err(LlamaError::Batch(tokens.len()));
        }
        self.has_logits = false;
        self.batch.clear();
        self.batch.extend(tokens.iter().map(|token| token.0));
        let count = i32::try_from(tokens.len()).map_err(|_| LlamaError::Batch(tokens.len()))?;
        // SAFETY: the batch borrows `self.batch`, which stays put during the call and has `count` tokens, at
        // most what the context was made for; null positions mean "after the last", null outputs mean "the
        // last only".
        let code = unsafe {
            let batch = sys::llama_batch_get_one(self.batch.as_mut_ptr(), count);
            sys::llama_decode(self.raw.as_ptr(), batch)
        };
        if code != 0 {
            return Err(LlamaError::Decode(code));
        }
        self.used += tokens.len();
        self.has_logits = true;
        Ok(())
    }

    /// One number per token of the vocabulary, for the token that comes next.
    pub(crate) fn logits(&self) -> Result<&[f32], LlamaError> {
        let logits = if self.has_logits {
            // SAFETY: `raw` is a live context that has decoded something; index -1 is the last output.
            unsafe { sys::llama_get_logits_ith(self.raw.as_ptr(), -1) }
        } else {
            ptr::null_mut()
        };
        if logits.is_null() {
            return Err(LlamaError::NoLogits);
        }
        // SAFETY: a row of logits has one entry per token of the vocabulary and is valid until the next
        // decode, which needs `&mut self`.
        Ok(unsafe { slice::from_raw_parts(logits, self.model.vocabulary_size()) })
    }

    pub(super) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub(super) fn raw(&self) -> *mut sys::llama_context {
        self.raw.as_ptr()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: we own `raw`; adapter and model are still alive, as fields drop after this.
        unsafe { sys::llama_free(self.raw.as_ptr()) };
    }
}
