//! A loaded LoRA adapter.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};

use super::{LlamaError, Model, log, sys};

/// An adapter's weights. The `Rc` matters: a context that has it set keeps one, because the library reads
/// freed memory when an adapter goes first.
pub(crate) struct Adapter {
    pub(super) raw: NonNull<sys::llama_adapter_lora>,
    model: Arc<Model>,
}

impl Adapter {
    /// Loads the file at `path`. Its header must have passed [`crate::gguf::AdapterHeader::check`] against
    /// this model.
    pub(crate) fn load(model: &Arc<Model>, path: &Path) -> Result<Rc<Self>, LlamaError> {
        log::clear_error();
        let failed = || LlamaError::Adapter { detail: log::take_error() };
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed())?;
        let _list = model.adapter_list.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the model is alive and its list of adapters is locked; the path is a NUL-terminated string
        // that outlives the call; the result is null or an adapter that we own.
        let raw = unsafe { sys::llama_adapter_lora_init(model.raw.as_ptr(), path.as_ptr()) };
        let raw = NonNull::new(raw).ok_or_else(failed)?;
        Ok(Rc::new(Self { raw, model: Arc::clone(model) }))
    }

    pub(super) fn belongs_to(&self, model: &Arc<Model>) -> bool {
        Arc::ptr_eq(&self.model, model)
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _list = self.model.adapter_list.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: we own `raw`; a context that uses it would hold an `Rc` of us; the model is alive and its
        // list of adapters is locked.
        unsafe { sys::llama_adapter_lora_free(self.raw.as_ptr()) };
    }
}
