//! Which model answers, and which one leaves: one change at a time.

use super::{ModelName, ModelsError, ModelsHandle};
use crate::model::{LoadError, Loaded, Target};

impl ModelsHandle {
    /// Makes the model called `name` answer, now and after a restart; empty: the one of the configuration. Goes on when
    /// the caller leaves.
    ///
    /// # Errors
    /// There is none of that name, or it cannot be loaded; the one before answers then.
    pub async fn load(&self, name: &str) -> Result<Loaded, ModelsError> {
        let name = Some(name).filter(|name| !name.is_empty());
        let name = name.map(|name| ModelName::try_from(name.to_owned())).transpose()?;
        let (handle, (reply, answer)) = (self.clone(), tokio::sync::oneshot::channel());
        {
            let mut tasks = self.tasks();
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move {
                let _ = reply.send(handle.load_now(name).await);
            });
        }
        answer.await.unwrap_or(Err(LoadError::Stopping.into()))
    }

    async fn load_now(&self, name: Option<ModelName>) -> Result<Loaded, ModelsError> {
        let _alone = self.shared.choosing.lock().await;
        let target = match &name {
            Some(name) => self.target(name).await?,
            None => self.shared.examiner.configured().ok_or(ModelsError::NotConfigured)?,
        };
        let loaded = self.shared.model.load(target).await?;
        let mut index = self.shared.index.lock().await;
        let mut next = index.snapshot().clone();
        next.selected.clone_from(&name);
        // Its weights have been looked at now, if they had not before.
        for model in &mut next.models {
            model.checked |= Some(&model.name) == name.as_ref();
        }
        if next != *index.snapshot() {
            self.publish(&mut index, next, None).await.map_err(ModelsError::NotKept)?;
        }
        Ok(loaded)
    }

    async fn target(&self, name: &ModelName) -> Result<Target, ModelsError> {
        let index = self.shared.index.lock().await;
        index.target(name).ok_or_else(|| ModelsError::NotFound(name.clone()))
    }

    /// Forgets a model and deletes its file.
    ///
    /// # Errors
    /// There is none of that name, or it is the one that answers.
    pub async fn remove(&self, name: &str) -> Result<(), ModelsError> {
        let name = ModelName::try_from(name.to_owned())?;
        let _alone = self.shared.choosing.lock().await;
        let mut index = self.shared.index.lock().await;
        let mut next = index.snapshot().clone();
        let model = next.find(&name).cloned().ok_or_else(|| ModelsError::NotFound(name.clone()))?;
        let file = index.file(&model.sha256);
        if next.selected.as_ref() == Some(&name) || self.answers(&name) {
            return Err(ModelsError::InUse(name));
        }
        next.models.retain(|model| model.name != name);
        let last = !next.models.iter().any(|other| other.sha256 == model.sha256);
        if last && self.shared.examiner.path.as_ref() == Some(&file) {
            return Err(ModelsError::InUse(name));
        }
        self.publish(&mut index, next, None).await.map_err(ModelsError::Store)?;
        // The index has the last word: a file that stays is swept at the next start.
        if last && let Err(error) = tokio::fs::remove_file(&file).await {
            tracing::warn!(%error, file = %file.display(), "a removed model's file was not deleted");
        }
        tracing::info!(model = %name, "model removed");
        Ok(())
    }
}
