//! The last steps of a file that came, wherever from: its digest, a look at it in a process of its own, and its place
//! in the list. Until the last one nobody knows it.

use std::time::SystemTime;

use super::part::Part;
use super::pull::{Phase, Progress, PullProgress};
use super::{Model, ModelName, ModelsError, ModelsHandle};
use crate::model::{ExamineError, Examined, examine};

/// All bytes of a file.
pub(super) struct Arrived {
    pub(super) part: Part,
    pub(super) name: ModelName,
    /// None: nobody announced one.
    pub(super) expected: Option<String>,
    pub(super) source: String,
}

impl ModelsHandle {
    /// The model that `name` would be, when its content is here already: there is nothing to fetch.
    ///
    /// # Errors
    /// The name is taken by other content.
    pub(super) async fn known(
        &self,
        name: &ModelName,
        sha256: Option<&str>,
        source: &str,
    ) -> Result<Option<Model>, ModelsError> {
        let snapshot = self.shared.snapshot.borrow().clone();
        if let Some(model) = snapshot.find(name) {
            return match sha256 {
                Some(sha256) if model.sha256 == sha256 => Ok(Some(model.clone())),
                Some(_) => Err(ModelsError::Exists(name.clone())),
                // Only the bytes will tell.
                None => Ok(None),
            };
        }
        let twin = sha256.and_then(|sha256| snapshot.models.iter().find(|model| model.sha256 == sha256));
        let Some(twin) = twin else { return Ok(None) };
        let (name, source, pulled_at) = (name.clone(), source.to_owned(), SystemTime::now());
        let model = Model { name, source, pulled_at, ..twin.clone() };
        self.list(model.clone(), None).await?;
        Ok(Some(model))
    }

    /// Checks a file and lists it. One that is not what it should be is deleted.
    pub(super) async fn take_in(
        &self,
        mut arrived: Arrived,
        progress: &Progress,
    ) -> Result<Model, ModelsError> {
        let received = arrived.part.length();
        let verifying = PullProgress::Progress { received, total: Some(received), phase: Phase::Verifying };
        let _ = progress.send(Ok(verifying)).await;
        if received == 0 {
            arrived.part.delete().await;
            return Err(ModelsError::Empty);
        }
        let found = arrived.part.digest().await.map_err(ModelsError::Store)?;
        if let Some(expected) = arrived.expected.take().filter(|expected| *expected != found) {
            arrived.part.delete().await;
            return Err(ModelsError::Digest { expected, found });
        }
        match self.known(&arrived.name, Some(&found), &arrived.source).await {
            Ok(None) => {}
            other => {
                arrived.part.delete().await;
                return other.and_then(|known| known.ok_or(ModelsError::NotFound(arrived.name)));
            }
        }
        let Arrived { part, name, source, .. } = arrived;
        let Examined { architecture, trained_context_tokens, checked } =
            match examine(&self.shared.examiner, part.path()).await {
                Ok(examined) => examined,
                // The file may be fine: the next pull goes on with it.
                Err(error @ ExamineError::NoProcess(_)) => return Err(error.into()),
                Err(error) => {
                    part.delete().await;
                    return Err(error.into());
                }
            };
        let model = Model {
            name,
            sha256: found,
            size_bytes: received,
            source,
            pulled_at: SystemTime::now(),
            architecture,
            trained_context_tokens,
            checked,
        };
        self.list(model.clone(), Some(&part)).await?;
        part.forget().await;
        tracing::info!(model = %model.name, source = model.source, bytes = received, "model taken in");
        Ok(model)
    }

    /// Puts a model into the list, and its file, when it came just now, into its place.
    async fn list(&self, model: Model, part: Option<&Part>) -> Result<(), ModelsError> {
        let mut index = self.shared.index.lock().await;
        let mut next = index.snapshot().clone();
        if next.find(&model.name).is_some() {
            return Err(ModelsError::Exists(model.name));
        }
        let arrived = part.map(|part| (part.path().to_owned(), index.file(&model.sha256)));
        next.models.push(model);
        next.models.sort_by(|a, b| a.name.cmp(&b.name));
        self.publish(&mut index, next, arrived).await.map_err(ModelsError::Store)
    }
}
