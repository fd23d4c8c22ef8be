//! Bare llama.cpp, in process: no daemon, no protocol, no scheduler. What `make bench-runtime` compares generation with.
//!
//!     bare '{"model": PATH, "prompt": TEXT, "threads": N, "context_tokens": N, "max_tokens": N}'
//!
//! Greedy, one sequence, the library's defaults for everything else; prints one line of JSON.
#![allow(unsafe_code, missing_docs, reason = "a program, and the point is to call the library directly")]
#![allow(clippy::expect_used, clippy::panic, reason = "a bench fails by panicking")]

use std::ffi::{CString, c_char, c_void};
use std::fs::read_to_string;
use std::ptr;
use std::time::Duration;

use llama_cpp_sys_2 as sys;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Longest piece of a token, in bytes; a longer one would be cut, which a bench can bear.
const PIECE: usize = 256;

fn main() {
    // `cargo bench` adds `--bench`.
    let settings = std::env::args().skip(1).find(|argument| argument != "--bench");
    let settings: Value = match settings.as_deref().map(serde_json::from_str) {
        Some(Ok(settings)) => settings,
        Some(Err(_)) | None => {
            eprintln!("started by `make bench-runtime`, with its settings as JSON in the only argument");
            return;
        }
    };
    let text = |name: &str| settings[name].as_str().unwrap_or_else(|| panic!("{name} is not text"));
    let number = |name: &str| {
        let number = settings[name].as_u64().and_then(|number| u32::try_from(number).ok());
        number.unwrap_or_else(|| panic!("{name} is not a number"))
    };
    let bare = Bare::load(text("model"), number("context_tokens"), number("threads"));
    // As on the other side, the first request pays for pages that no later one does.
    bare.generate("Hello.", 4);
    println!("{}", bare.generate(text("prompt"), number("max_tokens")));
}

/// Model, context and sampler, freed together.
struct Bare {
    model: *mut sys::llama_model,
    context: *mut sys::llama_context,
    sampler: *mut sys::llama_sampler,
    vocabulary: *const sys::llama_vocab,
}

impl Bare {
    fn load(path: &str, context_tokens: u32, threads: u32) -> Self {
        let path = CString::new(path).expect("a path");
        let threads = i32::try_from(threads).expect("a small number");
        // SAFETY: the callback is a plain function with the signature the library asks for and ignores its user
        // pointer; parameters are the library's own defaults, changed in plain numbers; every pointer is checked
        // before it is used; the model outlives the context, both are freed in `drop`.
        unsafe {
            sys::llama_log_set(Some(quiet), ptr::null_mut());
            sys::llama_backend_init();
            let model = sys::llama_model_load_from_file(path.as_ptr(), sys::llama_model_default_params());
            assert!(!model.is_null(), "the model does not load");
            let mut parameters = sys::llama_context_default_params();
            parameters.n_ctx = context_tokens;
            parameters.n_threads = threads;
            parameters.n_threads_batch = threads;
            let context = sys::llama_init_from_model(model, parameters);
            assert!(!context.is_null(), "there is no context");
            let sampler = sys::llama_sampler_init_greedy();
            assert!(!sampler.is_null(), "there is no sampler");
            Self { model, context, sampler, vocabulary: sys::llama_model_get_vocab(model) }
        }
    }

    /// Answers `prompt` from an empty cache, and says how long it took.
    fn generate(&self, prompt: &str, max_tokens: u32) -> Value {
        // SAFETY: the context lives; its memory is null or a part of it, and null is allowed.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.context), false) };
        let mut input = self.tokenize(prompt);
        let input_tokens = input.len();
        let begun = Instant::now();
        self.decode(&mut input);
        let mut answer = Vec::new();
        let mut first = Duration::ZERO;
        let mut last = Duration::ZERO;
        let mut output_tokens = 0;
        while output_tokens < max_tokens {
            // SAFETY: sampler and context live, and the context has just decoded something with logits at its end.
            let token = unsafe { sys::llama_sampler_sample(self.sampler, self.context, -1) };
            // SAFETY: the vocabulary is a part of the model, and the token one of it.
            if unsafe { sys::llama_vocab_is_eog(self.vocabulary, token) } {
                break;
            }
            self.piece(token, &mut answer);
            output_tokens += 1;
            last = begun.elapsed();
            if output_tokens == 1 {
                first = last;
            }
            if output_tokens < max_tokens {
                self.decode(&mut [token]);
            }
        }
        json!({
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "first_ms": first.as_secs_f64() * 1e3,
            "tokens_per_second": (f64::from(output_tokens) - 1.0) / (last - first).as_secs_f64(),
            "peak_resident_bytes": peak_resident_bytes(),
            "text": String::from_utf8_lossy(&answer),
        })
    }

    fn decode(&self, tokens: &mut [sys::llama_token]) {
        let count = i32::try_from(tokens.len()).expect("a short prompt");
        // SAFETY: the batch borrows the tokens for the call only, and has as many as it says; the default batch size of
        // a context is above the length of a bench's prompt, and more is an error code.
        let code =
            unsafe { sys::llama_decode(self.context, sys::llama_batch_get_one(tokens.as_mut_ptr(), count)) };
        assert_eq!(code, 0, "decoding failed");
    }

    fn tokenize(&self, text: &str) -> Vec<sys::llama_token> {
        let mut tokens = vec![0; text.len() + 8];
        let capacity = i32::try_from(tokens.len()).expect("a short prompt");
        let length = i32::try_from(text.len()).expect("a short prompt");
        // SAFETY: text and length, tokens and capacity belong together, and neither pointer is kept.
        let count = unsafe {
            sys::llama_tokenize(
                self.vocabulary,
                text.as_ptr().cast(),
                length,
                tokens.as_mut_ptr(),
                capacity,
                true,
                true,
            )
        };
        tokens.truncate(usize::try_from(count).expect("no text has more tokens than bytes"));
        tokens
    }

    fn piece(&self, token: sys::llama_token, answer: &mut Vec<u8>) {
        let mut piece = [0_u8; PIECE];
        let capacity = i32::try_from(PIECE).expect("a small number");
        // SAFETY: the buffer has the capacity we name; a negative answer means that it did not fit.
        let length = unsafe {
            sys::llama_token_to_piece(self.vocabulary, token, piece.as_mut_ptr().cast(), capacity, 0, false)
        };
        answer.extend(&piece[..usize::try_from(length).unwrap_or(0)]);
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // SAFETY: we own all three, and the context goes before its model.
        unsafe {
            sys::llama_sampler_free(self.sampler);
            sys::llama_free(self.context);
            sys::llama_model_free(self.model);
        }
    }
}

unsafe extern "C" fn quiet(_level: sys::ggml_log_level, _line: *const c_char, _user: *mut c_void) {}

fn peak_resident_bytes() -> u64 {
    let status = read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("proc(5)");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("proc(5)") * 1024
}
