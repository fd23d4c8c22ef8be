//! The `transfers` subsystem: at most one push and one pull at a time, each tried until it is done or cannot be.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use synesis_mesh::device::TunnelHandle;
use synesis_supervise::{Backoff, BoxError, Context, Subsystem};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::attempt::Watcher;
use super::files::Files;
use super::handle::{Shared, Transfers};
use super::{Direction, Job, Phase, Transfer, TransferError, pull, push};
use crate::adapters::AdaptersHandle;
use crate::models::digest;
use crate::tunnel::Identity;

/// Between two tries without a new byte.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// Damage that happened twice is no accident.
const MISMATCHES: u32 = 2;

/// Moves adapters. See the module's first sentence.
#[derive(Debug)]
pub struct TransferKeeper {
    shared: Arc<Shared>,
}

impl TransferKeeper {
    /// Reads the jobs of `folder`; those that are not over go on when this runs.
    ///
    /// # Errors
    /// The folder cannot be read or written.
    pub fn open(
        folder: &Path,
        adapters: AdaptersHandle,
        tunnel: TunnelHandle,
        identity: Identity,
    ) -> io::Result<(Self, Transfers)> {
        let (files, jobs) = Files::open(folder)?;
        let open = jobs.iter().filter(|job| job.ending.is_none());
        let cancels = open.map(|job| (job.id.clone(), CancellationToken::new())).collect();
        let list = Arc::new(jobs.into_iter().map(Transfer::new).collect());
        let shared = Arc::new(Shared {
            files,
            adapters,
            tunnel,
            identity,
            list: watch::Sender::new(list),
            cancels: std::sync::Mutex::new(cancels),
            changing: tokio::sync::Mutex::default(),
        });
        Ok((Self { shared: Arc::clone(&shared) }, Transfers { shared }))
    }
}

#[async_trait]
impl Subsystem for TransferKeeper {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        cx.ready();
        let shared = &*self.shared;
        // A job that a stop interrupts is still on the disk.
        tokio::select! {
            () = cx.stopping().cancelled_owned() => {}
            () = shared.lane(Direction::Push) => {}
            () = shared.lane(Direction::Pull) => {}
        }
        Ok(())
    }
}

impl Shared {
    /// Does the jobs of one direction, oldest first, one at a time. Does not end.
    async fn lane(&self, direction: Direction) {
        let mut list = self.list.subscribe();
        loop {
            let is_next = |job: &&Job| job.direction == direction && job.ending.is_none();
            let job = list.borrow_and_update().iter().map(|known| &known.job).find(is_next).cloned();
            match job {
                Some(job) => self.work(&job).await,
                // The sender is `self`'s, so this waits.
                None => drop(list.changed().await),
            }
        }
    }

    async fn work(&self, job: &Job) {
        let Some(cancelled) = self.cancels().get(&job.id).cloned() else {
            // Cancelled between the look at the list and now; the list says so in a moment.
            tokio::task::yield_now().await;
            return;
        };
        tokio::select! {
            biased;
            () = cancelled.cancelled() => {
                // Bytes that were being written when it was forgotten.
                self.forget(job).await;
            }
            outcome = self.carry_out(job) => self.conclude(job, outcome).await,
        }
    }

    async fn carry_out(&self, job: &Job) -> Result<(), TransferError> {
        let progress = Progress { shared: self, job };
        let (mut failures, mut mismatches) = (0, 0);
        loop {
            self.up(job).await;
            if self.device() != job.device {
                return Err(TransferError::OtherIdentity);
            }
            let before = self.moved(job);
            self.update(&job.id, |transfer| transfer.phase = Phase::Moving);
            let error = match self.attempt(job, &progress).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_transient() => error,
                Err(error) if error.is_mismatch() && mismatches + 1 < MISMATCHES => {
                    mismatches += 1;
                    self.check_own_file(job).await?;
                    error
                }
                Err(error) => return Err(error),
            };
            failures = if self.moved(job) > before { 1 } else { failures + 1 };
            let wait = BACKOFF.delay(failures - 1, &mut rand::rng());
            let wait = wait.max(error.retry_after().unwrap_or_default());
            let why = crate::log::chain(&error);
            tracing::info!(
                adapter = job.name,
                direction = job.direction.as_str(),
                error = why,
                ?wait,
                "a transfer goes on in a moment"
            );
            self.update(&job.id, |transfer| transfer.phase = Phase::Waiting(error.to_string()));
            sleep(wait).await;
        }
    }

    /// Waits for a tunnel; people see why.
    async fn up(&self, job: &Job) {
        let mut status = self.tunnel.status();
        loop {
            let why = {
                let status = status.borrow_and_update();
                if status.state.carries_work() {
                    return;
                }
                let state = format!("the tunnel is {}", status.state.as_str());
                status.reason.as_ref().map_or(state, |why| format!("offline: {why}"))
            };
            self.update(&job.id, |transfer| transfer.phase = Phase::Waiting(why));
            if status.changed().await.is_err() {
                // The tunnel is gone with the daemon: what is left is to be stopped.
                return std::future::pending().await;
            }
        }
    }

    async fn attempt(&self, job: &Job, progress: &Progress<'_>) -> Result<(), TransferError> {
        match job.direction {
            Direction::Push => {
                push::push(&self.tunnel, job, &self.adapters.file(&job.sha256), progress).await
            }
            Direction::Pull => {
                let part = self.files.part(&job.sha256);
                pull::pull(&self.tunnel, &self.adapters, job, &part, progress).await
            }
        }
    }

    /// Bytes were damaged on the way to the gateway. On this disk they must not be.
    async fn check_own_file(&self, job: &Job) -> Result<(), TransferError> {
        if job.direction == Direction::Pull {
            return Ok(());
        }
        let path = self.adapters.file(&job.sha256);
        let read =
            tokio::task::spawn_blocking(move || digest::of_file(&path)).await.map_err(io::Error::other);
        let actual = read.and_then(|digest| digest).map_err(TransferError::Store)?;
        if actual == job.sha256 { Ok(()) } else { Err(TransferError::Changed) }
    }

    fn moved(&self, job: &Job) -> u64 {
        self.list.borrow().iter().find(|known| known.job.id == job.id).map_or(0, |known| known.moved)
    }
}

/// Shows how far a job is.
struct Progress<'a> {
    shared: &'a Shared,
    job: &'a Job,
}

impl Watcher for Progress<'_> {
    fn moved(&self, bytes: u64) {
        self.shared.update(&self.job.id, |transfer| transfer.moved = bytes);
    }

    fn verifying(&self) {
        self.shared.update(&self.job.id, |transfer| transfer.phase = Phase::Verifying);
    }
}
