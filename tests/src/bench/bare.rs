//! Bare llama.cpp in a process of its own: the bench target `bare` of synesis-runtime, which alone may link it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::built::built;
use super::{CONTEXT_TOKENS, THREADS};
use crate::models::{SMOLLM, model};

/// The built program.
#[derive(Debug)]
pub(super) struct Bare(PathBuf);

impl Bare {
    /// The program that `cargo build --message-format json` named in `messages` when it built it. Cargo gives a bench
    /// a name with a hash, and building it here would build llama.cpp once more, for another choice of features.
    ///
    /// # Panics
    /// When there is none.
    pub(super) fn built(messages: &Path) -> Self {
        let program = built(messages, "bare").unwrap_or_else(|| {
            panic!(
                "{} names no `bare`; start the bench with `make bench-runtime`, which builds it",
                messages.display()
            )
        });
        Self(program)
    }

    /// One greedy generation in a new process: what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub(super) fn generate(&self, prompt: &str, max_tokens: u32) -> Value {
        let settings = json!({
            "model": model(SMOLLM),
            "prompt": turn(prompt),
            "threads": THREADS,
            "context_tokens": CONTEXT_TOKENS,
            "max_tokens": max_tokens,
        });
        let output = Command::new(&self.0).arg(settings.to_string()).output().expect("it was built");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("one line of JSON")
    }
}

/// The model's own chat template around one user turn, written out.
fn turn(prompt: &str) -> String {
    format!(
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    )
}
