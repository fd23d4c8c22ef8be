//! How the rest of the daemon speaks to the models: [`Store`] is what is there at the start, [`ModelsHandle`] what can
//! be done with it once there is a model process.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;

use super::{Index, ModelName, ModelsError, Offer, PullProgress, PullRequest, Snapshot, StoreSpec, Upload};
use crate::ask::Driven;
use crate::model::{ModelHandle, ModelSpec, ModelState, Target};

/// The models' folder, read.
#[derive(Debug)]
pub struct Store {
    spec: StoreSpec,
    index: Index,
}

impl Store {
    /// Reads the index and tidies up after a crash.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn open(spec: StoreSpec) -> io::Result<Self> {
        let index = Index::open(&spec.folder)?;
        Ok(Self { spec, index })
    }

    /// The model to begin with; none: the one of the configuration.
    pub fn selected(&self) -> Option<Target> {
        self.index.target(self.index.snapshot().selected.as_ref()?)
    }

    /// What can be done with it.
    pub fn serve(self, model: ModelHandle, examiner: ModelSpec, gpu_bytes: Option<u64>) -> ModelsHandle {
        let snapshot = watch::Sender::new(Arc::new(self.index.snapshot().clone()));
        ModelsHandle {
            shared: Arc::new(Shared {
                spec: self.spec,
                examiner,
                gpu_bytes,
                index: Mutex::new(self.index),
                snapshot,
                model,
                turn: Semaphore::new(1),
                choosing: Mutex::new(()),
                tasks: SyncMutex::new(JoinSet::new()),
            }),
        }
    }
}

impl Index {
    /// What to load for `name`.
    pub(super) fn target(&self, name: &ModelName) -> Option<Target> {
        let model = self.snapshot().find(name)?;
        Some(Target {
            path: self.file(&model.sha256),
            name: Some(model.name.to_string()),
            sha256: Some(model.sha256.clone()),
            check_tensors: !model.checked,
        })
    }
}

/// The models of this device. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct ModelsHandle {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) spec: StoreSpec,
    /// How files are looked at, and the configured model.
    pub(super) examiner: ModelSpec,
    gpu_bytes: Option<u64>,
    pub(super) index: Mutex<Index>,
    pub(super) snapshot: watch::Sender<Arc<Snapshot>>,
    pub(super) model: ModelHandle,
    /// One pull at a time: what one may still take of the disk is not promised to another.
    pub(super) turn: Semaphore,
    /// One load or removal at a time.
    pub(super) choosing: Mutex<()>,
    /// Loads that go on when their caller leaves.
    tasks: SyncMutex<JoinSet<()>>,
}

/// One model as users see it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The model of the store; none: the configured file.
    pub model: Option<super::Model>,
    /// What users call it.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// In bytes; 0: not known.
    pub size_bytes: u64,
    /// Whether it answers.
    pub active: bool,
}

impl ModelsHandle {
    /// The models of the store, and every change of them.
    pub fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shared.snapshot.subscribe()
    }

    /// The configured model, if there is one, and those of the store.
    pub async fn list_all(&self) -> Vec<Listed> {
        let mut listed = Vec::new();
        if let Some(target) = self.shared.examiner.configured() {
            let size = tokio::fs::metadata(&target.path).await.map_or(0, |found| found.len());
            let status = self.shared.model.status().borrow().clone();
            let active = status.state == ModelState::Ready && status.path.as_ref() == Some(&target.path);
            let stem = target.path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let own = active.then(|| status.name.clone());
            let name = target.name.or(own).or(stem).unwrap_or_default();
            listed.push(Listed { model: None, name, path: target.path, size_bytes: size, active });
        }
        let index = self.shared.index.lock().await;
        for model in &index.snapshot().models {
            listed.push(Listed {
                name: model.name.to_string(),
                path: index.file(&model.sha256),
                size_bytes: model.size_bytes,
                active: self.answers(&model.name),
                model: Some(model.clone()),
            });
        }
        listed
    }

    /// What fits this machine.
    pub fn offer(&self) -> Offer {
        let spec = &self.shared.examiner;
        let tokens = u64::from(spec.context_tokens) * u64::from(spec.parallel);
        Offer::here(tokens, spec.memory_limit_bytes, self.shared.gpu_bytes)
    }

    /// Fetches a model. Dropping the stream stops the pull; what came is kept and the next pull goes on from there.
    pub fn pull(&self, request: PullRequest) -> Driven<Result<PullProgress, ModelsError>> {
        let handle = self.clone();
        Driven::new(move |progress| async move {
            let pulled = handle.pull_all(request, &progress).await;
            Some(pulled.map(|model| PullProgress::Done(Box::new(model))))
        })
    }

    /// Takes in a file of the caller, who sends what is missing once `Started` says from where on. `None` in `chunks` is
    /// a client that broke off.
    pub fn upload(
        &self,
        upload: Upload,
        chunks: Pin<Box<dyn Stream<Item = Option<Bytes>> + Send>>,
    ) -> Driven<Result<PullProgress, ModelsError>> {
        let handle = self.clone();
        Driven::new(move |progress| async move {
            let taken = handle.upload_all(upload, chunks, &progress).await;
            Some(taken.map(|model| PullProgress::Done(Box::new(model))))
        })
    }

    /// Whether a model of the store is the one in the model process.
    pub(super) fn answers(&self, name: &ModelName) -> bool {
        let status = self.shared.model.status();
        let status = status.borrow();
        let ours = status.path.as_ref().is_some_and(|path| path.starts_with(&self.shared.spec.folder));
        ours && status.state != ModelState::None && status.name == name.as_str()
    }

    pub(super) fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the list down, then shows it.
    pub(super) async fn publish(
        &self,
        index: &mut Index,
        next: Snapshot,
        arrived: Option<(PathBuf, PathBuf)>,
    ) -> io::Result<()> {
        index.replace(next, arrived).await?;
        self.shared.snapshot.send_replace(Arc::new(index.snapshot().clone()));
        Ok(())
    }
}
