//! Bare llama.cpp in a process of its own: the bench target `bare` of synesis-runtime, which alone may link it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use cargo_metadata::Message;
use serde_json::{Value, json};

use super::{CONTEXT_TOKENS, THREADS};
use crate::models::{SMOLLM, model};

/// The built program.
#[derive(Debug)]
pub(super) struct Bare(PathBuf);

impl Bare {
    /// Builds it, in the profile that this program was built in.
    ///
    /// # Panics
    /// When it does not build.
    pub(super) fn build() -> Self {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--locked", "-p", "synesis-runtime", "--bench", "bare"]);
        cargo.args(["--message-format", "json-render-diagnostics"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let output = cargo
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo starts");
        assert!(output.status.success(), "bare llama.cpp does not build");
        let program = Message::parse_stream(output.stdout.as_slice())
            .map(|message| message.expect("cargo speaks its own format"))
            .find_map(|message| match message {
                Message::CompilerArtifact(artifact) if artifact.target.name == "bare" => artifact.executable,
                _ => None,
            });
        Self(program.expect("cargo names what it built").into_std_path_buf())
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
