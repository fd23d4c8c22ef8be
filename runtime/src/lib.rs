//! The model process of Synesis: a gRPC server (`runtime.v1`) around llama.cpp.
//!
//! A request passes through the modules in this order: [`serve`] (gRPC, domain types, errors), `prompt` (chat
//! template, tokens), `engine` (one thread that owns the model), `llama` (the only unsafe code). Files are
//! checked by [`gguf`] before llama.cpp sees them, because it aborts on some bad ones.

pub mod arguments;
mod constraint;
mod engine;
pub mod fit;
pub mod gguf;
mod llama;
pub mod logging;
pub mod peft;
mod prompt;
pub mod sandbox;
pub mod serve;
