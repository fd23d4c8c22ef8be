//! What can be wrong with a PEFT adapter.

use std::io;

use crate::gguf::{AdapterFault, GgufError};

/// Why an adapter cannot be converted. Texts name the part that is wrong, never the path: the caller knows it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the messages say")]
pub enum PeftError {
    /// Opening or reading failed.
    #[error("{what} cannot be read: {cause}")]
    Io { what: &'static str, cause: io::Error },
    /// A folder, a pipe or a device.
    #[error("{0} is not a regular file")]
    NotAFile(&'static str),
    /// More than any adapter has.
    #[error("{what} is {bytes} bytes long, more than the {limit} that are plausible")]
    TooLong { what: &'static str, bytes: u64, limit: u64 },
    /// The configuration is not what PEFT writes.
    #[error("adapter_config.json is not valid: {0}")]
    Config(#[source] serde_json::Error),
    /// Something llama.cpp's adapters cannot express.
    #[error("the adapter uses {0}, which a GGUF adapter cannot express")]
    Unsupported(String),
    /// A number of the configuration.
    #[error("{0} of adapter_config.json is not a plausible number")]
    Number(&'static str),
    /// The weights' header.
    #[error("adapter_model.safetensors is not valid: {0}")]
    Safetensors(String),
    /// The model's family.
    #[error(
        "PEFT adapters for {0} models are not converted here; convert it with llama.cpp's convert_lora_to_gguf.py \
         and import the GGUF file"
    )]
    Architecture(String),
    /// A tensor that belongs to no matrix that is known.
    #[error("tensor {0} is not a LoRA weight of a known matrix")]
    UnknownTensor(String),
    /// Two tensors for one place.
    #[error("tensors {0} and {1} are for the same matrix")]
    SameTarget(String, String),
    /// A LoRA matrix has two dimensions.
    #[error("tensor {0} has an impossible shape")]
    Shape(String),
    /// NaN or infinity.
    #[error("tensor {0} has values that are not finite numbers")]
    NotFinite(String),
    /// What came out is not an adapter for the loaded model.
    #[error(transparent)]
    Fault(#[from] AdapterFault),
    /// What came out is not even GGUF: a name nobody expected.
    #[error("the adapter cannot be written as GGUF: {0}")]
    Gguf(#[from] GgufError),
}
