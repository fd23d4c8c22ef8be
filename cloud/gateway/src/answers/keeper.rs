//! Keeps answers: one task for each, from its first byte to the moment when nobody will ask for it any more. When the
//! gateway stops, running answers get to their end or are cut by the deadline, and what is finished goes to the disk.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Ended, Rest};
use super::spool::{Spool, Spooled};
use super::{Cancel, House, Start};
use crate::failure::chain;

/// For running answers, when nobody said how long they may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// A device that reads says that it has everything within a round trip. One that takes longer may be gone, and its
/// answer has to outlive this process.
const CONFIRMS_WITHIN: Duration = Duration::from_millis(500);

/// The subsystem that owns every answer's task.
pub(crate) struct AnswersKeeper {
    house: Arc<House>,
    starts: mpsc::Receiver<Start>,
    tasks: JoinSet<()>,
    restored: bool,
}

impl AnswersKeeper {
    pub(super) fn new(house: Arc<House>, starts: mpsc::Receiver<Start>) -> Self {
        Self { house, starts, tasks: JoinSet::new(), restored: false }
    }

    /// What a former process left behind. Without a readable folder, finished answers live as long as this process.
    async fn restore(&mut self, spool: &Spool, closing: &CancellationToken) {
        let (house, spool_here) = (Arc::clone(&self.house), spool.clone());
        let reading = tokio::task::spawn_blocking(move || {
            spool_here.read_all(
                house.settings.limits,
                house.settings.keep,
                house.clock.now_ms(),
                &house.memory,
            )
        });
        let Ok(found) = reading.await else { return };
        for Spooled { answer, expires_in } in found {
            let answer = Arc::new(answer);
            self.house.lock().insert(Arc::clone(&answer));
            let until = Instant::now() + expires_in;
            let (house, spool, closing) = (Arc::clone(&self.house), spool.clone(), closing.clone());
            self.tasks.spawn(async move {
                On { house: &house, spool: &spool, closing: &closing }.keep(&answer, until, true).await;
            });
        }
    }

    fn begin(&mut self, Start { answer, run }: Start, spool: &Spool, closing: &CancellationToken) {
        let (house, spool, closing) = (Arc::clone(&self.house), spool.clone(), closing.clone());
        self.tasks.spawn(async move {
            run.await;
            On { house: &house, spool: &spool, closing: &closing }.rest(&answer).await;
        });
    }

    fn running(&self) -> Vec<Arc<Answer>> {
        let table = self.house.lock();
        table.answers.values().filter(|(_, answer)| !answer.is_over()).map(|(_, a)| Arc::clone(a)).collect()
    }
}

#[async_trait]
impl Subsystem for AnswersKeeper {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let stopping = cx.stopping();
        let closing = CancellationToken::new();
        let spool = Spool::open(&self.house.settings.spool);
        if !std::mem::replace(&mut self.restored, true) {
            self.restore(&spool, &closing).await;
        }
        cx.ready();
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                Some(start) = self.starts.recv() => self.begin(start, &spool, &closing),
                Some(done) = self.tasks.join_next() => log_panic(done),
            }
        }
        // Nothing new; what is finished goes to the disk; what runs has until the deadline to get there.
        self.starts.close();
        while let Some(start) = self.starts.recv().await {
            self.begin(start, &spool, &closing);
        }
        closing.cancel();
        let deadline = self.house.stop_by.borrow().unwrap_or_else(|| Instant::now() + GRACE);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = ended => return Ok(()),
            () = sleep_until(deadline) => {}
        }
        let running = self.running();
        tracing::warn!(running = running.len(), "answers were cut by the stop");
        for answer in running {
            answer.cancel(Cancel::SessionEnds);
        }
        while let Some(done) = self.tasks.join_next().await {
            log_panic(done);
        }
        Ok(())
    }
}

/// What an answer that has ended lives on.
struct On<'a> {
    house: &'a Arc<House>,
    spool: &'a Spool,
    closing: &'a CancellationToken,
}

impl On<'_> {
    /// Keeps a finished answer until the device has it, its time is up, its place is needed, or the gateway stops.
    async fn rest(&self, answer: &Arc<Answer>) {
        let now = Instant::now();
        match answer.ended() {
            Some(Ended::Charged) => {}
            // A run ends its answer; one that did not has nothing to keep.
            None => return self.house.forget(answer),
            // Cheap to ask for again, and not worth more than the time a device takes to come back.
            Some(Ended::Free) => {
                let keep = self.house.settings.grace.min(self.house.settings.keep);
                return self.keep(answer, now + keep, false).await;
            }
        }
        let confirmed_by = now + CONFIRMS_WITHIN;
        while answer.rest() == Rest::Read && Instant::now() < confirmed_by && !self.closing.is_cancelled() {
            tokio::select! {
                () = answer.stirred() => {}
                () = sleep_until(confirmed_by) => {}
                () = self.closing.cancelled() => {}
            }
        }
        let spooled = answer.rest() != Rest::LetGo && self.store(answer).await;
        self.keep(answer, now + self.house.settings.keep, spooled).await;
    }

    async fn store(&self, answer: &Arc<Answer>) -> bool {
        let (spool, kept) = (self.spool.clone(), Arc::clone(answer));
        let ended_at_ms = self.house.clock.now_ms();
        let written = tokio::task::spawn_blocking(move || spool.write(&kept, ended_at_ms)).await;
        match written {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(request = %answer.key, error = chain(&error), "a finished answer is not on the disk; it does not outlive this process");
                false
            }
            Err(error) => {
                tracing::error!(request = %answer.key, %error, "storing an answer panicked");
                false
            }
        }
    }

    async fn keep(&self, answer: &Arc<Answer>, until: Instant, spooled: bool) {
        loop {
            if answer.rest() == Rest::LetGo || Instant::now() >= until {
                break;
            }
            tokio::select! {
                () = answer.stirred() => {}
                () = sleep_until(until) => {}
                // What is on the disk stays there for the next process.
                () = self.closing.cancelled() => return,
            }
        }
        self.house.forget(answer);
        if spooled {
            let (spool, key) = (self.spool.clone(), answer.key);
            // Best effort: a file that stays is deleted when its time is up, at a start.
            let _ = tokio::task::spawn_blocking(move || spool.delete(&key)).await;
        }
    }
}

fn log_panic(done: Result<(), tokio::task::JoinError>) {
    if let Err(error) = done {
        tracing::error!(%error, "keeping an answer panicked");
    }
}
