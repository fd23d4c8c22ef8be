//! llama.cpp's log lines become tracing events at debug; its last error line is kept for our error texts.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use super::sys;
use crate::logging::LLAMA_TARGET;

thread_local! {
    /// llama.cpp logs on the thread that called it, so this is the reason of this thread's failure.
    static LAST_ERROR: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Routes the library's log here.
pub(super) fn install() {
    // SAFETY: `receive` has the C signature the library asks for, is a plain function (so it lives for ever),
    // and ignores the user pointer.
    unsafe { sys::llama_log_set(Some(receive), ptr::null_mut()) };
}

/// Forgets the last error line; call it before an operation whose error line matters.
pub(super) fn clear_error() {
    LAST_ERROR.with_borrow_mut(Option::take);
}

/// The last error line since [`clear_error`], or words that say there was none.
pub(super) fn take_error() -> String {
    LAST_ERROR.with_borrow_mut(Option::take).unwrap_or_else(|| "it gave no reason".to_owned())
}

/// A C string as text; a null pointer is the empty text.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string that stays as it is during the call.
pub(super) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the caller promises the rest.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

unsafe extern "C" fn receive(level: sys::ggml_log_level, line: *const c_char, _user: *mut c_void) {
    let is_error = level == sys::GGML_LOG_LEVEL_ERROR;
    if !is_error && !tracing::enabled!(target: LLAMA_TARGET, tracing::Level::DEBUG) {
        return;
    }
    // SAFETY: the library passes a NUL-terminated line that lives for this call.
    let line = unsafe { text(line) };
    let line = line.trim();
    if line.is_empty() || line.bytes().all(|byte| byte == b'.') {
        return;
    }
    tracing::debug!(target: LLAMA_TARGET, "{line}");
    if is_error {
        // The first line has the cause, those after it only say what failed because of it.
        LAST_ERROR.with_borrow_mut(|last| last.get_or_insert_with(|| cause(line).to_owned()).len());
    }
}

/// `function_name: something failed: cause` without the function's name.
fn cause(line: &str) -> &str {
    match line.split_once(": ") {
        Some((function, rest)) if !function.contains(' ') => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::cause;

    #[test]
    fn the_functions_name_is_left_out_of_an_error() {
        assert_eq!(cause("llama_model_load: missing tensor 'x'"), "missing tensor 'x'");
        assert_eq!(cause("no function here: it says"), "no function here: it says");
    }
}
