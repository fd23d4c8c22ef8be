//! A PEFT LoRA adapter (`adapter_config.json` and `adapter_model.safetensors`) as the GGUF adapter that llama.cpp
//! loads. Both files come from strangers and are read here, inside the locked process, with every size bounded;
//! the result is a stream of bytes, because this process writes nothing.
//!
//! What happens to the numbers: names are translated; rows of the query and key matrices are put into the order in
//! which llama.cpp rotates them, for the one architecture whose weights were permuted when the model was
//! converted; everything is stored as 16-bit floats, or as 32-bit floats where a value would not fit; what
//! llama.cpp cannot express with its one alpha (alpha per module, rsLoRA over different ranks) is multiplied into
//! the second matrix. This is what llama.cpp's `convert_lora_to_gguf.py` does, and a test compares every tensor.

mod config;
mod convert;
mod error;
mod float;
mod layout;
mod names;
mod safetensors;

pub use convert::{Conversion, Pieces, convert};
pub use error::PeftError;
