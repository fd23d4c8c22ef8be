//! How the rest of the daemon moves adapters: a job is kept on the disk before it is promised, and done by the keeper.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use synesis_mesh::device::TunnelHandle;
use synesis_proto::Problem;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

use super::files::{Files, KEPT};
use super::{Direction, Ending, Job, Phase, StoredAdapter, Transfer, TransferError, catalogue};
use crate::adapters::{AdapterError, AdapterName, AdaptersHandle};
use crate::ask::Driven;
use crate::models::digest::is_sha256;
use crate::tunnel::Identity;

/// Jobs that may wait.
const MOST_WAITING: usize = 64;
/// Between two pieces of progress.
const EVERY: Duration = Duration::from_millis(250);

/// The transfers of this device. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct Transfers {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) files: Files,
    pub(super) adapters: AdaptersHandle,
    pub(super) tunnel: TunnelHandle,
    pub(super) identity: Identity,
    /// Oldest first.
    pub(super) list: watch::Sender<Arc<Vec<Transfer>>>,
    /// One per job that is not over; cancelled to end it.
    pub(super) cancels: SyncMutex<HashMap<String, CancellationToken>>,
    /// One change of the set of jobs at a time.
    pub(super) changing: Mutex<()>,
}

/// News of one transfer.
#[derive(Debug, Clone, PartialEq)]
pub enum TransferEvent {
    /// It is kept, or was already.
    Started(Transfer),
    /// How far it is.
    Progress(Transfer),
    /// It ended well, or goes on without the caller.
    Done(Transfer),
}

/// Whether a caller stays to see the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The last thing told is how it ended.
    ForTheEnd,
    /// The last thing told is that it is kept.
    ForTheStart,
}

type Events = Driven<Result<TransferEvent, TransferError>>;

impl Transfers {
    /// Every transfer that is not over, and the last ones that are; and every change of them.
    pub fn list(&self) -> watch::Receiver<Arc<Vec<Transfer>>> {
        self.shared.list.subscribe()
    }

    /// Sends the adapter `name` to the gateway. Dropping the stream leaves the job alone.
    pub fn push(&self, name: String, uid: u32, wait: Wait) -> Events {
        let handle = self.clone();
        Driven::new(move |events| async move {
            let begun = handle.begin_push(name, uid).await;
            handle.tell(begun, wait, &events).await
        })
    }

    /// Fetches an adapter from the gateway: `wanted` is a name there, or a digest; `name` what to call it here, empty for
    /// the name there.
    pub fn pull(&self, wanted: String, name: String, uid: u32, wait: Wait) -> Events {
        let handle = self.clone();
        Driven::new(move |events| async move {
            let begun = handle.begin_pull(wanted, name, uid).await;
            handle.tell(begun, wait, &events).await
        })
    }

    /// Ends a transfer that is not over.
    ///
    /// # Errors
    /// There is none.
    pub async fn cancel(&self, name: &str, direction: Direction) -> Result<Transfer, TransferError> {
        let _changing = self.shared.changing.lock().await;
        let list = Arc::clone(&self.shared.list.borrow());
        let found = list.iter().find(|transfer| {
            let job = &transfer.job;
            job.name == name && job.direction == direction && job.ending.is_none()
        });
        let Some(transfer) = found else {
            return Err(TransferError::NoSuchTransfer {
                name: name.to_owned(),
                direction: direction.as_str(),
            });
        };
        // In this order: whoever works on it does not find it again.
        self.shared.change(|list| list.retain(|known| known.job.id != transfer.job.id));
        self.shared.end(&transfer.job.id);
        self.shared.forget(&transfer.job).await;
        tracing::info!(adapter = name, direction = direction.as_str(), "transfer cancelled");
        Ok(transfer.clone())
    }

    /// What this account has at the gateway, each with whether this device has the same content.
    ///
    /// # Errors
    /// The gateway cannot be asked, or refuses.
    pub async fn list_cloud(&self) -> Result<Vec<(StoredAdapter, bool)>, TransferError> {
        self.shared.identity.present()?;
        let stored = catalogue::list(&self.shared.tunnel).await?;
        let snapshot = Arc::clone(&self.shared.adapters.snapshot().borrow());
        Ok(stored
            .into_iter()
            .map(|adapter| {
                let here = snapshot.has_file(&adapter.sha256);
                (adapter, here)
            })
            .collect())
    }

    /// Has the gateway forget an adapter; this device's own stay.
    ///
    /// # Errors
    /// The gateway cannot be asked, or refuses.
    pub async fn remove_cloud(&self, wanted: &str) -> Result<Vec<StoredAdapter>, TransferError> {
        self.shared.identity.present()?;
        catalogue::remove(&self.shared.tunnel, wanted).await
    }

    async fn begin_push(&self, name: String, uid: u32) -> Result<String, TransferError> {
        self.shared.identity.present()?;
        let name = AdapterName::try_from(name).map_err(AdapterError::from)?;
        let snapshot = Arc::clone(&self.shared.adapters.snapshot().borrow());
        let adapter = snapshot.find(&name).ok_or(AdapterError::NotFound(name))?;
        self.begin(Job {
            direction: Direction::Push,
            name: adapter.name.to_string(),
            sha256: adapter.id.clone(),
            size_bytes: adapter.size_bytes,
            architecture: adapter.architecture.clone(),
            rank: adapter.rank,
            alpha: adapter.alpha,
            base_model: adapter.origin.base_model.clone(),
            uid: Some(uid),
            ..self.blank()
        })
        .await
    }

    async fn begin_pull(&self, wanted: String, name: String, uid: u32) -> Result<String, TransferError> {
        self.shared.identity.present()?;
        let stored = catalogue::list(&self.shared.tunnel).await?;
        let is_meant = |stored: &StoredAdapter| {
            if is_sha256(&wanted) { stored.sha256 == wanted } else { stored.name == wanted }
        };
        // Of one name the newest comes first.
        let stored = stored.into_iter().find(is_meant);
        let stored = stored.ok_or_else(|| not_at_the_gateway(&wanted))?;
        let name = if name.is_empty() { stored.name.clone() } else { name };
        let name = AdapterName::try_from(name).map_err(AdapterError::from)?;
        let snapshot = Arc::clone(&self.shared.adapters.snapshot().borrow());
        if snapshot.find(&name).is_some_and(|known| known.id != stored.sha256) {
            return Err(AdapterError::Exists(name).into());
        }
        self.begin(Job {
            direction: Direction::Pull,
            name: name.to_string(),
            sha256: stored.sha256,
            size_bytes: stored.size_bytes,
            architecture: stored.architecture,
            rank: stored.rank,
            alpha: stored.alpha,
            base_model: stored.base_model,
            pushed_by: stored.pushed_by,
            uid: Some(uid),
            ..self.blank()
        })
        .await
    }

    /// What every new job has.
    fn blank(&self) -> Job {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Job {
            id: Ulid::generate().to_string(),
            direction: Direction::Push,
            name: String::new(),
            sha256: String::new(),
            size_bytes: 0,
            architecture: String::new(),
            rank: 0,
            alpha: 0.0,
            base_model: String::new(),
            device: self.shared.device(),
            pushed_by: String::new(),
            uid: None,
            begun_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            ending: None,
        }
    }

    /// Keeps the job, unless the same is to be done already; the id of whichever it is.
    async fn begin(&self, job: Job) -> Result<String, TransferError> {
        let _changing = self.shared.changing.lock().await;
        let list = Arc::clone(&self.shared.list.borrow());
        let open = || list.iter().filter(|transfer| transfer.job.ending.is_none());
        let same = |known: &Job| {
            (known.direction, &known.name, &known.sha256, &known.device)
                == (job.direction, &job.name, &job.sha256, &job.device)
        };
        if let Some(known) = open().find(|transfer| same(&transfer.job)) {
            return Ok(known.job.id.clone());
        }
        if open().count() >= MOST_WAITING {
            return Err(TransferError::TooMany(MOST_WAITING));
        }
        self.shared.files.save(&job).await.map_err(TransferError::Store)?;
        let id = job.id.clone();
        self.shared.cancels().insert(id.clone(), CancellationToken::new());
        self.shared.change(|list| list.push(Transfer::new(job)));
        Ok(id)
    }

    /// Tells `events` what becomes of a job. What is returned is the last that is told.
    async fn tell(
        &self,
        begun: Result<String, TransferError>,
        wait: Wait,
        events: &mpsc::Sender<Result<TransferEvent, TransferError>>,
    ) -> Option<Result<TransferEvent, TransferError>> {
        let id = match begun {
            Ok(id) => id,
            Err(error) => return Some(Err(error)),
        };
        let mut list = self.list();
        let mut told: Option<Transfer> = None;
        let mut next = Instant::now();
        loop {
            let found = list.borrow_and_update().iter().find(|transfer| transfer.job.id == id).cloned();
            let Some(transfer) = found else { return Some(Err(TransferError::Cancelled)) };
            if told.is_none() {
                events.send(Ok(TransferEvent::Started(transfer.clone()))).await.ok()?;
            }
            match &transfer.job.ending {
                Some(Ending::Done) => return Some(Ok(TransferEvent::Done(transfer))),
                Some(Ending::Failed { .. }) => return Some(Err(TransferError::Ended(Box::new(transfer)))),
                None if wait == Wait::ForTheStart => return Some(Ok(TransferEvent::Done(transfer))),
                None => {}
            }
            if told.as_ref() != Some(&transfer) {
                events.send(Ok(TransferEvent::Progress(transfer.clone()))).await.ok()?;
                told = Some(transfer);
                next = Instant::now() + EVERY;
            }
            list.changed().await.ok()?;
            sleep_until(next).await;
        }
    }
}

fn not_at_the_gateway(wanted: &str) -> TransferError {
    TransferError::NotAtGateway(wanted.chars().take(64).collect())
}

impl Shared {
    /// The device that this is now; empty: none.
    pub(super) fn device(&self) -> String {
        self.identity
            .watch()
            .borrow()
            .as_ref()
            .map(|identity| identity.device_id.to_string())
            .unwrap_or_default()
    }

    pub(super) fn cancels(&self) -> MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has whoever works on the job leave it.
    pub(super) fn end(&self, id: &str) {
        if let Some(token) = self.cancels().remove(id) {
            token.cancel();
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Vec<Transfer>)) {
        self.list.send_modify(|list| change(Arc::make_mut(list)));
    }

    pub(super) fn update(&self, id: &str, update: impl FnOnce(&mut Transfer)) {
        self.change(|list| {
            if let Some(transfer) = list.iter_mut().find(|transfer| transfer.job.id == id) {
                update(transfer);
            }
        });
    }

    /// Deletes the files of a job that is over or not wanted any more.
    pub(super) async fn forget(&self, job: &Job) {
        let known = Arc::clone(&self.list.borrow());
        self.files.forget(job, &known).await;
    }

    /// Writes down how a job ended, and forgets the oldest of those that are over.
    pub(super) async fn conclude(&self, job: &Job, outcome: Result<(), TransferError>) {
        let ending = match outcome {
            Ok(()) => Ending::Done,
            Err(error) => {
                tracing::warn!(
                    adapter = job.name,
                    direction = job.direction.as_str(),
                    error = crate::log::chain(&error),
                    "a transfer failed"
                );
                Ending::failed(Problem::from(error))
            }
        };
        let _changing = self.changing.lock().await;
        if self.cancels().remove(&job.id).is_none() {
            // Cancelled in the last moment: it is forgotten already.
            return;
        }
        let job = Job { ending: Some(ending), ..job.clone() };
        self.forget(&job).await;
        if let Err(error) = self.files.save(&job).await {
            tracing::warn!(%error, "how a transfer ended was not written down");
        }
        self.update(&job.id, |transfer| {
            transfer.moved = if job.ending == Some(Ending::Done) { job.size_bytes } else { transfer.moved };
            transfer.job = job.clone();
            transfer.phase = Phase::Over;
        });
        let list = Arc::clone(&self.list.borrow());
        let over: Vec<&Job> =
            list.iter().map(|known| &known.job).filter(|job| job.ending.is_some()).collect();
        for old in over.iter().take(over.len().saturating_sub(KEPT)) {
            self.forget(old).await;
            self.change(|list| list.retain(|known| known.job.id != old.id));
        }
    }
}
