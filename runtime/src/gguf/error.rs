//! What can be wrong with a file before anything in it has a meaning.

use std::io;

/// Why a file cannot be read as GGUF. Texts name the part that is wrong, never the path: the caller knows it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the messages say")]
pub enum GgufError {
    /// Opening or reading failed.
    #[error("the file cannot be read: {0}")]
    Io(#[source] io::Error),
    /// A folder, a pipe or a device.
    #[error("not a regular file")]
    NotAFile,
    /// Another kind of file.
    #[error("not a GGUF file: it does not start with the letters GGUF")]
    Magic,
    /// Written on a machine of the other byte order.
    #[error("the file is big-endian, which is not supported")]
    BigEndian,
    /// Too old or too new.
    #[error("GGUF version {0} is not supported, only 2 and 3 are")]
    Version(u32),
    /// The header goes on after the end of the file.
    #[error("the file is truncated: {what} at byte {at} needs {needed} bytes, the file has {length} in all")]
    TruncatedHeader { what: &'static str, at: u64, needed: u64, length: u64 },
    /// The header is whole, the weights are not.
    #[error("the file is truncated: tensor {tensor} ends at byte {end}, the file has {length} bytes")]
    TruncatedData { tensor: String, end: u64, length: u64 },
    /// A count or a length nobody needs.
    #[error("the header claims {count} {what}, more than the {limit} that are plausible")]
    Implausible { what: &'static str, count: u64, limit: u64 },
    /// A name or a text that is not UTF-8, is empty, or contains control characters.
    #[error("{what} is not valid text")]
    Text { what: &'static str },
    /// A type number that no version of the format has.
    #[error("metadata {key} has the unknown type {kind}")]
    ValueType { key: String, kind: u32 },
    /// The same key or tensor name again.
    #[error("{name} appears twice")]
    Duplicate { name: String },
    /// `general.alignment` must be a power of two.
    #[error("the alignment is not a power of two of plausible size")]
    Alignment,
    /// Dimensions that overflow, are zero, or do not divide into the type's blocks.
    #[error("tensor {tensor} has an impossible shape")]
    Shape { tensor: String },
    /// A tensor type that no version of the format has.
    #[error("tensor {tensor} has the unknown type {kind}")]
    TensorType { tensor: String, kind: u32 },
    /// NaN or infinity among the weights.
    #[error("tensor {tensor} has values that are not finite numbers")]
    NotFinite { tensor: String },
    /// Tensor data must start at a multiple of the alignment.
    #[error("the data of tensor {tensor} is not aligned")]
    Unaligned { tensor: String },
}
