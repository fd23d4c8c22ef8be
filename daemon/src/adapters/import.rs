//! Taking an adapter in: received, converted when it is a PEFT adapter, checked by the model process, and only then
//! handed to the keeper. All but the last step run in the caller's task, so that a long import delays no swap, and
//! leave nothing behind when the caller leaves.

use std::time::SystemTime;

use futures_util::Stream;

use super::handle::Command;
use super::staging::{Draft, Keep, Limit, Staged};
use super::upload::Upload;
use super::{Adapter, AdapterError, AdapterName, AdaptersHandle, Format, Origin, Piece};
use crate::model::{ModelError, ModelState};

/// Bytes of a source that are kept.
const LONGEST_SOURCE: usize = 1024;

/// What the importer says about an adapter.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// What to call it.
    pub name: String,
    /// Where it was taken from, as the user named it; may be empty.
    pub source: String,
    /// The base model, where it is known from elsewhere; may be empty. What a PEFT config says goes before.
    pub base_model: String,
    /// The importer.
    pub uid: Option<u32>,
}

impl AdaptersHandle {
    /// Takes an adapter in. `None` in `pieces` is a client that broke off. The same bytes under the same name again are
    /// a success that changes nothing.
    ///
    /// # Errors
    /// A bad name, a file that is empty, too large or no adapter for this model, no model to check it against, a name
    /// that is taken, or no room. Nothing is stored then.
    pub async fn import(
        &self,
        import: Import,
        pieces: impl Stream<Item = Option<Piece>> + Unpin,
    ) -> Result<Adapter, AdapterError> {
        let name = AdapterName::try_from(import.name)?;
        // Before anything is sent for nothing. A model that is on its way is waited for when it is needed.
        self.there_will_be_a_model()?;
        let mut origin = Origin {
            format: Format::Gguf,
            source: plain(&import.source),
            base_model: plain(&import.base_model),
            imported_by: import.uid,
            weights_sha256: None,
        };
        let staged = match Upload::receive(&self.folder, self.max_bytes, pieces).await? {
            Upload::Gguf(staged) => staged,
            Upload::Peft { config, weights } => {
                let (staged, base_model) = self.convert(&config, &weights).await?;
                origin.format = Format::Peft;
                origin.base_model = plain(&base_model);
                origin.weights_sha256 = Some(weights.id.clone());
                staged
            }
        };
        // Whatever made the file: what is stored has been read back and checked as a whole.
        let info = self.model.inspect_adapter(staged.path()).await.map_err(AdapterError::while_importing)?;
        let adapter = Adapter {
            name,
            id: staged.id.clone(),
            size_bytes: staged.size_bytes,
            rank: info.rank,
            alpha: info.alpha,
            architecture: info.architecture,
            targets: info.targets,
            imported_at: SystemTime::now(),
            origin,
        };
        self.ask(|reply| Command::Admit { adapter: Box::new(adapter), staged, reply }).await
    }

    fn there_will_be_a_model(&self) -> Result<(), AdapterError> {
        let status = self.model.status();
        let status = status.borrow();
        let cause = match status.state {
            ModelState::None => ModelError::NoModel,
            ModelState::Failed => {
                ModelError::Failed { reason: status.reason.clone(), next_step: status.next_step.clone() }
            }
            _ => return Ok(()),
        };
        Err(AdapterError::NeedsModel { cause })
    }

    /// The GGUF file of a PEFT adapter, and the base model it names.
    async fn convert(&self, config: &Staged, weights: &Staged) -> Result<(Staged, String), AdapterError> {
        let started = self.model.convert_adapter(config.path(), weights.path()).await;
        let (converted, mut bytes) = started.map_err(AdapterError::while_importing)?;
        let limit = Limit { what: "the converted adapter", bytes: self.max_bytes };
        let mut draft = Draft::begin(&self.folder, limit).await?;
        while let Some(piece) = bytes.next().await.map_err(AdapterError::while_importing)? {
            draft.write(&piece).await?;
        }
        let staged = draft.finish(Keep::Durably).await?;
        if staged.size_bytes != converted.size_bytes {
            let (announced, came) = (converted.size_bytes, staged.size_bytes);
            return Err(ModelError::Protocol(format!("{came} bytes instead of {announced}")).into());
        }
        Ok((staged, converted.base_model))
    }
}

/// What others wrote, made fit to be kept and shown: one line of bounded length.
fn plain(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > LONGEST_SOURCE {
            break;
        }
        kept.push(c);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_kept_as_one_line_of_bounded_length() {
        assert_eq!(plain("/home/ann/a\u{1b}[2J\nb"), "/home/ann/a[2Jb");
        assert_eq!(plain(&"ä".repeat(1000)).len(), LONGEST_SOURCE);
    }
}
