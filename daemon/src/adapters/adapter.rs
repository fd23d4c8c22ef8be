//! One adapter: what it is, and where it came from.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::AdapterName;

/// One imported adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// What users call it.
    pub name: AdapterName,
    /// sha256 of the GGUF file, hex; the model process knows it by this.
    pub id: String,
    /// Size of the file, in bytes.
    pub size_bytes: u64,
    /// Rank of the update matrices.
    pub rank: u32,
    /// Scale numerator.
    pub alpha: f32,
    /// Architecture of the base model it was made for.
    pub architecture: String,
    /// What it changes, such as `attn_q`.
    pub targets: Vec<String>,
    /// When it was taken in.
    pub imported_at: SystemTime,
    /// Where it came from.
    pub origin: Origin,
}

/// Where an adapter came from, as far as the importer said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// What was imported.
    pub format: Format,
    /// The path or name the importer gave; may be empty.
    pub source: String,
    /// The base model that a PEFT config names; may be empty.
    pub base_model: String,
    /// Who imported it; none: that was not kept yet.
    pub imported_by: Option<u32>,
    /// sha256 of the PEFT weights it was converted from, hex.
    pub weights_sha256: Option<String>,
}

/// What an adapter was imported from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A GGUF file, as llama.cpp takes it.
    Gguf,
    /// A folder of the PEFT library, converted here.
    Peft,
}

impl Format {
    /// The name in the local API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gguf => "gguf",
            Self::Peft => "peft",
        }
    }
}

/// An adapter with what changes about it all the time.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// What does not change.
    pub adapter: Adapter,
    /// It answers requests that name none.
    pub active: bool,
    /// The model process holds it.
    pub loaded: bool,
    /// When a request or a swap last took it; none: never.
    pub last_used: Option<SystemTime>,
    /// Why the loaded model cannot use it; none: nothing is known against it.
    pub unusable: Option<String>,
}
