//! The files of an import as they arrive: one GGUF file, or the two files of a PEFT folder one after the other.

use std::path::Path;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use super::AdapterError;
use super::staging::{Draft, Keep, Limit, Staged};

/// A PEFT config is a page of settings.
const CONFIG: Limit = Limit { what: "adapter_config.json", bytes: 1 << 20 };

/// Which file bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A whole adapter in GGUF.
    Gguf,
    /// `adapter_config.json`, which comes first.
    PeftConfig,
    /// `adapter_model.safetensors`.
    PeftWeights,
}

/// A piece of a file.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Of which.
    pub part: Part,
    /// In order.
    pub data: Bytes,
}

/// Everything that was sent, under temporary names.
#[derive(Debug)]
pub(super) enum Upload {
    Gguf(Staged),
    Peft { config: Staged, weights: Staged },
}

/// What is received at the moment.
enum Receiving {
    Nothing,
    Gguf(Draft),
    Config(Draft),
    Weights { config: Staged, draft: Draft },
}

impl Upload {
    /// Writes the pieces to new files below `folder`, each of at most `max_bytes`. `None` in the stream is a client
    /// that broke off.
    pub(super) async fn receive(
        folder: &Path,
        max_bytes: u64,
        mut pieces: impl Stream<Item = Option<Piece>> + Unpin,
    ) -> Result<Self, AdapterError> {
        let gguf = Limit { what: "the adapter file", bytes: max_bytes };
        let weights = Limit { what: "adapter_model.safetensors", bytes: max_bytes };
        let mut receiving = Receiving::Nothing;
        while let Some(piece) = pieces.next().await {
            let Piece { part, data } = piece.ok_or(AdapterError::Interrupted)?;
            receiving = match (receiving, part) {
                (Receiving::Nothing, Part::Gguf) => Receiving::Gguf(Draft::begin(folder, gguf).await?),
                (Receiving::Nothing, Part::PeftConfig) => {
                    Receiving::Config(Draft::begin(folder, CONFIG).await?)
                }
                (Receiving::Config(draft), Part::PeftWeights) => Receiving::Weights {
                    config: draft.finish(Keep::ForNow).await?,
                    draft: Draft::begin(folder, weights).await?,
                },
                (same @ Receiving::Gguf(_), Part::Gguf)
                | (same @ Receiving::Config(_), Part::PeftConfig)
                | (same @ Receiving::Weights { .. }, Part::PeftWeights) => same,
                (Receiving::Nothing, Part::PeftWeights) => {
                    return Err(AdapterError::Parts("the weights of a PEFT adapter came without its config"));
                }
                _ => return Err(AdapterError::Parts("the files of the upload are out of order")),
            };
            match &mut receiving {
                Receiving::Gguf(draft) | Receiving::Config(draft) | Receiving::Weights { draft, .. } => {
                    draft.write(&data).await?;
                }
                Receiving::Nothing => {}
            }
        }
        match receiving {
            Receiving::Gguf(draft) => Ok(Self::Gguf(draft.finish(Keep::Durably).await?)),
            Receiving::Weights { config, draft } => {
                Ok(Self::Peft { config, weights: draft.finish(Keep::ForNow).await? })
            }
            Receiving::Config(_) => {
                Err(AdapterError::Parts("the config of a PEFT adapter came without its weights"))
            }
            Receiving::Nothing => Err(AdapterError::Empty(gguf.what)),
        }
    }
}
