//! A context: the key-value cache of several sequences, and the adapter that is set.
//!
//! Greedy answers are to be the same, bit for bit, whatever else is computed beside them. Measured with
//! SmolLM2 Q4_1, alone against batches of 2 to 8, prompts whole against chunks of 1 to 256 tokens, fresh
//! against continued after a kept prefix:
//!
//! - One buffer per sequence (`kv_unified = false`) is needed: the order of sums depends on the places of the
//!   cells.
//! - Flash attention has other ways for a token alone than for several sequences from 512 cells on, and for 64 and
//!   more tokens of a prompt. `src/exact.rs` of the binary takes the one that computes each row by itself.
//! - The library's matrix kernel for two and more columns (`llamafile_sgemm`) sums in another order than the one
//!   for a single column. `src/exact.rs` keeps it from the matrices where both kinds occur: those of
//!   adapters, and those of an attention that is not flash attention. Q4_1, Q5_1 and the K quantisations never use it; weights in the
//!   types that do (F16, Q8_0, ...) may differ in the last bits between a batch of one and a batch of several.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::slice;
use std::sync::Arc;

use super::batch::{BATCH, Batch, Entry, Logits, Output, Sequence};
use super::{Adapter, LlamaError, Model, log, sys};

/// How a context is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ContextSettings {
    /// Size of each sequence's window, prompt and answer together.
    pub(crate) tokens: u32,
    /// Sequences there are.
    pub(crate) parallel: u16,
    pub(crate) threads: u32,
    pub(crate) purpose: Purpose,
}

/// What is read from a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Logits, after one token of each sequence.
    Text,
    /// A vector of every token; at most so many tokens are computed at once.
    Vectors(u32),
}

impl Purpose {
    /// Tokens of a batch.
    fn batch(self) -> u32 {
        match self {
            Self::Text => BATCH as u32,
            Self::Vectors(tokens) => tokens.max(1),
        }
    }
}

/// Asked now and then while a batch is computed: true gives it up.
pub(crate) type GiveUp<'a> = &'a (dyn Fn() -> bool + Sync);

/// Several sequences of tokens.
pub(crate) struct Context {
    raw: NonNull<sys::llama_context>,
    /// Tokens of each sequence.
    lengths: Vec<usize>,
    capacity: usize,
    purpose: Purpose,
    /// Tokens of one batch that may have an outcome.
    most_outputs: usize,
    /// For each token of the last batch, whether it has logits.
    outputs: Vec<bool>,
    arrays: Arrays,
    // Kept after `raw` is freed (see `Drop`): the context points into both.
    adapter: Option<(Rc<Adapter>, f32)>,
    model: Arc<Model>,
}

/// What a batch looks like in C.
#[derive(Default)]
struct Arrays {
    tokens: Vec<sys::llama_token>,
    positions: Vec<sys::llama_pos>,
    counts: Vec<i32>,
    sequences: Vec<sys::llama_seq_id>,
    sequence_pointers: Vec<*mut sys::llama_seq_id>,
    wanted: Vec<i8>,
}

impl Context {
    pub(crate) fn new(model: &Arc<Model>, settings: ContextSettings) -> Result<Self, LlamaError> {
        log::clear_error();
        let threads = i32::try_from(settings.threads).unwrap_or(1);
        let parallel = u32::from(settings.parallel.max(1));
        // SAFETY: returns a plain struct.
        let mut parameters = unsafe { sys::llama_context_default_params() };
        parameters.n_ctx = settings.tokens.saturating_mul(parallel);
        parameters.n_batch = settings.purpose.batch();
        parameters.n_seq_max = parallel;
        let most_outputs = match settings.purpose {
            Purpose::Text => {
                // Computed at once; half a batch is as fast on a CPU and takes half the memory for the attention.
                parameters.n_ubatch = BATCH as u32 / 2;
                // Only the last token of each sequence has logits: the buffer for more would be 100 MB and larger.
                parallel
            }
            Purpose::Vectors(_) => {
                // At once: where a token sees those behind it, the library aborts otherwise.
                parameters.n_ubatch = parameters.n_batch;
                parameters.embeddings = true;
                // Whoever reads the vectors makes one of them: the library can only do it within one batch.
                parameters.pooling_type = sys::LLAMA_POOLING_TYPE_NONE;
                parameters.n_batch.max(parallel)
            }
        };
        parameters.n_outputs_max = most_outputs;
        parameters.n_threads = threads;
        parameters.n_threads_batch = threads;
        parameters.kv_unified = false;
        // The old part of a sliding window is needed again when a sequence is cut back.
        parameters.swa_full = true;
        parameters.no_perf = true;
        // SAFETY: the model is alive, and we keep it alive; the result is null or a context that we own.
        let raw = unsafe { sys::llama_init_from_model(model.raw.as_ptr(), parameters) };
        let raw = NonNull::new(raw).ok_or_else(|| LlamaError::Context { detail: log::take_error() })?;
        // SAFETY: `raw` is a live context.
        let made = unsafe { sys::llama_n_ctx_seq(raw.as_ptr()) };
        Ok(Self {
            raw,
            lengths: vec![0; usize::from(settings.parallel.max(1))],
            // The library rounds up; the window is what was asked for.
            capacity: made.min(settings.tokens) as usize,
            purpose: settings.purpose,
            most_outputs: most_outputs as usize,
            outputs: Vec::with_capacity(settings.purpose.batch() as usize),
            arrays: Arrays::default(),
            adapter: None,
            model: Arc::clone(model),
        })
    }

    /// All sequences, by rising number.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = Sequence> + use<> {
        (0..self.lengths.len()).filter_map(|index| u16::try_from(index).ok().map(Sequence))
    }

    /// Tokens a sequence has.
    pub(crate) fn length(&self, sequence: Sequence) -> usize {
        self.lengths.get(sequence.index()).copied().unwrap_or(0)
    }

    /// Cuts a sequence back to its first `tokens`, or, where the model cannot (recurrent ones), to nothing.
    /// Returns how many are left. What stood behind them is masked out from now on.
    pub(crate) fn truncate(&mut self, sequence: Sequence, tokens: usize) -> usize {
        let Some(length) = self.lengths.get_mut(sequence.index()) else { return 0 };
        if tokens >= *length {
            return *length;
        }
        *length = tokens;
        if !self.remove_from(sequence, tokens) {
            self.lengths[sequence.index()] = 0;
            self.remove_from(sequence, 0);
        }
        self.lengths[sequence.index()]
    }

    /// Whether it could be done. The whole of a sequence always can be removed.
    fn remove_from(&mut self, sequence: Sequence, position: usize) -> bool {
        let position = sys::llama_pos::try_from(position).unwrap_or(sys::llama_pos::MAX);
        // SAFETY: `raw` is a live context and has that sequence; its memory may be null, which is allowed.
        unsafe {
            let memory = sys::llama_get_memory(self.raw.as_ptr());
            sys::llama_memory_seq_rm(memory, sys::llama_seq_id::from(sequence.0), position, -1)
        }
    }

    /// Forgets a sequence and zeroes its cells: a masked value counts zero times, but zero times NaN is NaN.
    /// The others stay as they are.
    pub(crate) fn wipe(&mut self, sequence: Sequence) -> Result<(), LlamaError> {
        self.truncate(sequence, 0);
        // The library can only zero all of it.
        let mut others = BTreeMap::new();
        for other in self.sequences() {
            if self.length(other) > 0 {
                others.insert(other, self.save(other).ok_or(LlamaError::State)?);
            }
        }
        // SAFETY: as in `remove_from`.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.raw.as_ptr()), true) };
        self.lengths.fill(0);
        let mut lost = false;
        for (other, saved) in &others {
            lost |= !self.restore(*other, saved);
        }
        if lost { Err(LlamaError::State) } else { Ok(()) }
    }

    /// Sets the one adapter that is active, or none. The sequences stay: which of them may be continued with it
    /// is for the caller to know. The next batch costs some milliseconds more when it is another one.
    pub(crate) fn set_adapter(&mut self, adapter: Option<(&Rc<Adapter>, f32)>) -> Result<(), LlamaError> {
        let is_set = match (&self.adapter, adapter) {
            (None, None) => true,
            (Some((set, scale)), Some((wanted, other))) => {
                Rc::ptr_eq(set, wanted) && scale.to_bits() == other.to_bits()
            }
            _ => false,
        };
        if is_set {
            return Ok(());
        }
        if adapter.is_some_and(|(adapter, _)| !adapter.belongs_to(&self.model)) {
            return Err(LlamaError::Adapter { detail: "it was loaded for another model".to_owned() });
        }
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
        self.adapter = adapter.map(|(adapter, scale)| (Rc::clone(adapter), scale));
        Ok(())
    }

    /// Computes a batch. After an error the sequences of the batch are as they were before it, or, where the
    /// model cannot be cut back, empty.
    pub(crate) fn decode(&mut self, batch: &Batch, give_up: Option<GiveUp<'_>>) -> Result<(), LlamaError> {
        self.outputs.clear();
        let before = self.lengths.clone();
        if let Err(error) = self.lay_out(batch.entries()) {
            self.lengths = before;
            return Err(error);
        }
        let code = self.compute(give_up);
        if code == 0 {
            self.outputs.extend(batch.entries().iter().map(|entry| entry.logits == Logits::Wanted));
            return Ok(());
        }
        // Parts of it may have been computed.
        for sequence in self.sequences() {
            self.truncate(sequence, before.get(sequence.index()).copied().unwrap_or(0));
        }
        Err(if code == ABORTED { LlamaError::GivenUp } else { LlamaError::Decode(code) })
    }

    /// The batch as C wants it, each token at the end of its sequence.
    fn lay_out(&mut self, entries: &[Entry]) -> Result<(), LlamaError> {
        let refused = LlamaError::Batch(entries.len());
        if entries.is_empty() || entries.len() > self.purpose.batch() as usize {
            return Err(refused);
        }
        let wanted = entries.iter().filter(|entry| entry.logits == Logits::Wanted).count();
        if wanted > self.most_outputs {
            return Err(refused);
        }
        let arrays = &mut self.arrays;
        arrays.clear();
        for entry in entries {
            let Some(length) = self.lengths.get_mut(entry.sequence.index()) else { return Err(refused) };
            if *length >= self.capacity {
                return Err(refused);
            }
            arrays.tokens.push(entry.token);
            arrays.positions.push(sys::llama_pos::try_from(*length).map_err(|_| LlamaError::Batch(*length))?);
            arrays.sequences.push(sys::llama_seq_id::from(entry.sequence.0));
            arrays.counts.push(1);
            arrays.wanted.push(i8::from(entry.logits == Logits::Wanted));
            *length += 1;
        }
        // Not before: pushing moves the numbers.
        arrays.sequence_pointers.extend(arrays.sequences.iter_mut().map(ptr::from_mut));
        Ok(())
    }

    fn compute(&mut self, mut give_up: Option<GiveUp<'_>>) -> i32 {
        let arrays = &mut self.arrays;
        let Ok(count) = i32::try_from(arrays.tokens.len()) else { return ABORTED };
        let batch = sys::llama_batch {
            n_tokens: count,
            token: arrays.tokens.as_mut_ptr(),
            embd: ptr::null_mut(),
            pos: arrays.positions.as_mut_ptr(),
            n_seq_id: arrays.counts.as_mut_ptr(),
            seq_id: arrays.sequence_pointers.as_mut_ptr(),
            logits: arrays.wanted.as_mut_ptr(),
        };
        let raw = self.raw.as_ptr();
        if let Some(question) = &mut give_up {
            let question: *mut GiveUp<'_> = question;
            // SAFETY: `raw` is a live context; `ask` may be called until the callback is taken back below, and
            // the question outlives that.
            unsafe { sys::llama_set_abort_callback(raw, Some(ask), question.cast()) };
        }
        // SAFETY: every array has `count` entries, at most what the context was made for, and stays put during
        // the call; each sequence exists and each position is the next of its sequence.
        let code = unsafe { sys::llama_decode(raw, batch) };
        if give_up.is_some() {
            // SAFETY: `raw` is a live context, and no callback is allowed.
            unsafe { sys::llama_set_abort_callback(raw, None, ptr::null_mut()) };
        }
        code
    }

    /// One number per token of the vocabulary, for the token that comes behind one of the last batch's.
    pub(crate) fn logits(&self, output: Output) -> Result<&[f32], LlamaError> {
        if self.purpose != Purpose::Text || !self.outputs.get(output.0).is_some_and(|wanted| *wanted) {
            return Err(LlamaError::NoLogits);
        }
        let place = i32::try_from(output.0).map_err(|_| LlamaError::NoLogits)?;
        // SAFETY: `raw` is a live context, and its last batch has logits at that place.
        let logits = unsafe { sys::llama_get_logits_ith(self.raw.as_ptr(), place) };
        if logits.is_null() {
            return Err(LlamaError::NoLogits);
        }
        // SAFETY: a row of logits has one entry per token of the vocabulary and is valid until the next
        // decode, which needs `&mut self`.
        Ok(unsafe { slice::from_raw_parts(logits, self.model.vocabulary_size()) })
    }

    /// The vector of one of the last batch's tokens.
    pub(crate) fn vector(&self, output: Output) -> Result<&[f32], LlamaError> {
        if self.purpose == Purpose::Text || !self.outputs.get(output.0).is_some_and(|wanted| *wanted) {
            return Err(LlamaError::NoVector);
        }
        let place = i32::try_from(output.0).map_err(|_| LlamaError::NoVector)?;
        // SAFETY: `raw` is a live context that makes vectors, and its last batch has one at that place.
        let vector = unsafe { sys::llama_get_embeddings_ith(self.raw.as_ptr(), place) };
        if vector.is_null() {
            return Err(LlamaError::NoVector);
        }
        // SAFETY: the library keeps vectors of this width one after the other, and they are valid until the next
        // decode, which needs `&mut self`.
        Ok(unsafe { slice::from_raw_parts(vector, self.model.vector_width()) })
    }

    /// Records how long a restored sequence is.
    pub(super) fn set_length(&mut self, sequence: Sequence, tokens: usize) {
        if let Some(length) = self.lengths.get_mut(sequence.index()) {
            *length = tokens;
        }
    }

    pub(super) fn has(&self, sequence: Sequence) -> bool {
        sequence.index() < self.lengths.len()
    }

    pub(super) fn raw(&self) -> *mut sys::llama_context {
        self.raw.as_ptr()
    }
}

/// What `llama_decode` returns when it was told to give up.
const ABORTED: i32 = 2;

impl Arrays {
    fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.counts.clear();
        self.sequences.clear();
        self.sequence_pointers.clear();
        self.wanted.clear();
    }
}

/// # Safety
/// `question` is the address of a [`GiveUp`] that lives during the call.
unsafe extern "C" fn ask(question: *mut c_void) -> bool {
    // SAFETY: the caller promises it.
    let question: &GiveUp<'_> = unsafe { &*question.cast::<GiveUp<'_>>() };
    question()
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: we own `raw`; adapter and model are still alive, as fields drop after this.
        unsafe { sys::llama_free(self.raw.as_ptr()) };
    }
}
