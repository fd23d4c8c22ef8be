//! A bounded, panic-free reader of GGUF headers, and the checks a file must pass before llama.cpp opens it.
//!
//! Why: llama.cpp answers most bad files with an error, but some with an abort, a bus error or a hang
//! (`block_count` of 0, an alpha of another type, an adapter whose shapes belong to another model). The
//! format is described in `docs/gguf.md` of the ggml repository; versions 2 and 3, little endian.

mod adapter;
mod asserted;
mod error;
mod header;
mod model;
mod open;
mod reader;
mod shape;
mod tensor;
mod value;
mod values;
mod vectors;

#[cfg(test)]
pub(crate) mod fixture;

pub use adapter::{AdapterFault, AdapterHeader};
pub use error::GgufError;
pub use header::Header;
pub use model::{ModelFault, ModelHeader};
pub use open::{OpenFile, open};
pub use shape::{LayerShape, Shape};
pub use tensor::{Tensor, TensorType};
pub use value::{Value, ValueType};
pub use values::check_values;
pub use vectors::Pooling;
