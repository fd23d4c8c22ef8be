//! The thin safe layer over llama.cpp's C interface, and the only module with unsafe code. Its types make the
//! calls that abort or corrupt memory impossible to write: an adapter cannot be freed while it is set, a
//! batch cannot be larger than the context's, a sampler cannot run without logits.
//!
//! [`Model`] may be shared between threads (tokenising only reads it); [`Context`] and [`Adapter`] stay on
//! one.
#![allow(unsafe_code)]

mod adapter;
mod batch;
mod context;
mod log;
mod model;
mod sampler;
mod saved;
mod vocabulary;

pub(crate) use adapter::Adapter;
pub(crate) use batch::{BATCH, Batch, Logits, Output, Sequence};
pub(crate) use context::{Context, ContextSettings, Purpose};
pub(crate) use model::{Model, Weights};
pub(crate) use sampler::{Penalties, Random, Sampler, SamplerSettings};
pub(crate) use saved::SavedSequence;
pub(crate) use vocabulary::{Ends, Parse, Token};

use llama_cpp_sys_2 as sys;

/// What llama.cpp refused. `detail` is its own last error line, for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LlamaError {
    #[error("llama.cpp cannot load the model: {detail}")]
    Model { detail: String },
    #[error("llama.cpp cannot make a context for the model: {detail}")]
    Context { detail: String },
    #[error("llama.cpp cannot load the adapter: {detail}")]
    Adapter { detail: String },
    #[error("llama.cpp cannot tokenise the text")]
    Tokenize,
    #[error("a batch of {0} tokens was not accepted")]
    Batch(usize),
    #[error("decoding failed with code {0}")]
    Decode(i32),
    #[error("the computation was given up, as nobody waits for it any more")]
    GivenUp,
    #[error("a sequence could not be moved")]
    State,
    #[error("there are no logits to sample from")]
    NoLogits,
    #[error("there is no vector of that token")]
    NoVector,
    #[error("a sampler could not be made")]
    Sampler,
}

/// The engine's name and version, as `ModelInfo` reports them.
pub(crate) fn version() -> String {
    // SAFETY: takes nothing and returns a pointer to a constant of the library.
    let version = unsafe { log::text(sys::llama_version()) };
    format!("llama.cpp {version}")
}

#[cfg(test)]
mod tests {
    use super::sys;
    use crate::gguf::TensorType;

    #[test]
    fn our_table_of_tensor_types_is_the_linked_libraries() {
        for number in 0..sys::GGML_TYPE_COUNT {
            // SAFETY: both functions read a constant table that has an entry for every number below the
            // count.
            let (block, bytes) = unsafe { (sys::ggml_blck_size(number), sys::ggml_type_size(number)) };
            let ours = TensorType::from_number(number).map(TensorType::layout);
            let theirs = (block > 0).then_some((block as u64, bytes as u64));
            assert_eq!(ours, theirs, "type {number}");
        }
    }
}
