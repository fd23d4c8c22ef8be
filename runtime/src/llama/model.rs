//! A loaded model: weights and vocabulary.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, Once};

use super::{LlamaError, log, sys};

/// Whether the library reads and checks every weight as it loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weights {
    Checked,
    Trusted,
}

/// Weights and vocabulary, freed with the last [`Arc`]. Contexts and adapters keep one each.
pub(crate) struct Model {
    pub(super) raw: NonNull<sys::llama_model>,
    pub(super) vocabulary: NonNull<sys::llama_vocab>,
    /// The model keeps a list of its adapters, which loading and freeing one changes without a lock.
    pub(super) adapter_list: Mutex<()>,
}

// SAFETY: the library documents tokenising as thread-safe and everything we call on a shared model only reads
// it; the one thing that changes, the list of adapters, is guarded by `adapter_list`.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

impl Model {
    /// Maps the file at `path`. Its header must have passed [`crate::gguf::ModelHeader::check`]: the library
    /// aborts on some files that do not. All layers go to the GPU, where one is compiled in.
    pub(crate) fn load(path: &Path, weights: Weights) -> Result<Arc<Self>, LlamaError> {
        start_library();
        log::clear_error();
        let failed = || LlamaError::Model { detail: log::take_error() };
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed())?;
        // SAFETY: returns a plain struct.
        let mut parameters = unsafe { sys::llama_model_default_params() };
        parameters.check_tensors = weights == Weights::Checked;
        // SAFETY: the parameters are the library's defaults and a flag, the path is a NUL-terminated string
        // that outlives the call; the result is null or a model that we own.
        let raw = unsafe { sys::llama_model_load_from_file(path.as_ptr(), parameters) };
        let raw = NonNull::new(raw).ok_or_else(failed)?;
        // SAFETY: `raw` is a live model; the vocabulary is a part of it and lives as long.
        let vocabulary = unsafe { sys::llama_model_get_vocab(raw.as_ptr()) };
        let Some(vocabulary) = NonNull::new(vocabulary.cast_mut()) else {
            // SAFETY: we own `raw` and forget it here.
            unsafe { sys::llama_model_free(raw.as_ptr()) };
            return Err(failed());
        };
        Ok(Arc::new(Self { raw, vocabulary, adapter_list: Mutex::new(()) }))
    }

    /// Whether the model reads a text and continues it, as opposed to encoders and the like.
    pub(crate) fn generates_text(&self) -> bool {
        // SAFETY: `raw` is a live model.
        unsafe {
            sys::llama_model_has_decoder(self.raw.as_ptr())
                && !sys::llama_model_has_encoder(self.raw.as_ptr())
                && !sys::llama_model_is_diffusion(self.raw.as_ptr())
        }
    }

    pub(crate) fn parameters(&self) -> u64 {
        // SAFETY: `raw` is a live model.
        unsafe { sys::llama_model_n_params(self.raw.as_ptr()) }
    }

    /// Numbers in the vector of a token.
    pub(crate) fn vector_width(&self) -> usize {
        // SAFETY: `raw` is a live model.
        usize::try_from(unsafe { sys::llama_model_n_embd_out(self.raw.as_ptr()) }).unwrap_or(0)
    }

    pub(crate) fn layers(&self) -> u32 {
        // SAFETY: `raw` is a live model.
        unsafe { sys::llama_model_n_layer(self.raw.as_ptr()) }.unsigned_abs()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: we own `raw`; contexts and adapters hold an `Arc` of us, so none is left.
        unsafe { sys::llama_model_free(self.raw.as_ptr()) };
    }
}

fn start_library() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        log::install();
        // SAFETY: called once, before any other use of the library that needs it.
        unsafe { sys::llama_backend_init() };
    });
}
