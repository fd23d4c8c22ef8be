//! The answers of this gateway by device and request id: the running ones, and the finished ones for a while. An answer
//! does not belong to the connection it was asked for on, so a device that lost its connection reads on with another.

mod answer;
mod cancel;
mod keeper;
mod log;
mod memory;
mod reader;
mod spool;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use synesis_mesh::kind::MAX_WORK_STREAMS;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use ulid::Ulid;
use uuid::Uuid;

pub(crate) use answer::{Answer, Ended, Identity};
pub(crate) use cancel::Cancel;
pub(crate) use keeper::AnswersKeeper;
pub(crate) use memory::Limits;
use memory::Memory;
pub(crate) use reader::{Read, Reader};

use crate::control_plane::{Clock, RequestKey};

/// Answers that may run for one device at the same time: what its streams allow, over as many connections as it may have.
const MOST_RUNNING: usize = 4 * MAX_WORK_STREAMS as usize;
/// Runs that wait to be started.
const STARTING: usize = 64;

/// How answers are kept.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How long a running answer goes on without a reader.
    pub(crate) grace: Duration,
    /// How long a finished answer is kept for a device that has not said that it has it.
    pub(crate) keep: Duration,
    pub(crate) limits: Limits,
    /// Where finished answers outlive the process.
    pub(crate) spool: PathBuf,
}

/// The answers. Clones share them.
#[derive(Clone)]
pub(crate) struct Answers(Arc<House>);

struct House {
    settings: Settings,
    clock: Clock,
    memory: Arc<Memory>,
    table: Mutex<Table>,
    start: mpsc::Sender<Start>,
    /// By when running answers have to be over, once the gateway is to stop.
    stop_by: watch::Sender<Option<Instant>>,
}

/// By device, then by request: a device's answers lie side by side. The number says which is older.
#[derive(Default)]
struct Table {
    answers: BTreeMap<(Uuid, Ulid), (u64, Arc<Answer>)>,
    entered: u64,
}

type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An answer whose work begins.
struct Start {
    answer: Arc<Answer>,
    run: Run,
}

/// What a request is to this gateway.
pub(crate) enum Entered {
    /// New. Whoever entered it has to [`start`](Answers::start) it.
    New(Arc<Answer>),
    /// The same request as before.
    Known(Arc<Answer>),
    /// Another one under the same id.
    Other,
    /// More answers of this device run than may.
    TooMany,
}

/// The gateway is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gateway is stopping")]
pub(crate) struct Stopping;

impl Answers {
    /// None yet, and who keeps them.
    pub(crate) fn new(settings: Settings, clock: Clock) -> (Self, AnswersKeeper) {
        let (start, starts) = mpsc::channel(STARTING);
        let memory = Arc::new(Memory::new(settings.limits));
        let house = Arc::new(House {
            settings,
            clock,
            memory: Arc::clone(&memory),
            table: Mutex::default(),
            start,
            stop_by: watch::Sender::new(None),
        });
        let weak: Weak<House> = Arc::downgrade(&house);
        memory.evicts_with(move || {
            if let Some(house) = weak.upgrade() {
                house.make_room();
            }
        });
        (Self(Arc::clone(&house)), AnswersKeeper::new(house, starts))
    }

    /// The answer of this request, or a new one.
    pub(crate) fn enter(&self, key: RequestKey, identity: Identity) -> Entered {
        self.0.memory.make_room();
        let mut table = self.0.lock();
        let place = (key.device, key.request_id);
        match table.answers.get(&place) {
            // A request that cost nothing may be tried again, by a device that knows so.
            Some((_, known)) if known.is_spent() => known.let_go(),
            Some((_, known)) if known.identity == identity => return Entered::Known(Arc::clone(known)),
            Some(_) => return Entered::Other,
            None => {}
        }
        let running = table.of(key.device).filter(|(_, answer)| !answer.is_over()).count();
        if running >= MOST_RUNNING {
            return Entered::TooMany;
        }
        let answer = Arc::new(Answer::new(key, identity, Arc::clone(&self.0.memory)));
        table.insert(Arc::clone(&answer));
        Entered::New(answer)
    }

    /// Has the answer made by `run`, which ends it whatever happens. It goes on when this future is dropped after it
    /// was taken.
    ///
    /// # Errors
    /// When no new answers are begun any more.
    pub(crate) async fn start(
        &self,
        answer: &Arc<Answer>,
        run: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Stopping> {
        let start = Start { answer: Arc::clone(answer), run: Box::pin(run) };
        self.0.start.send(start).await.map_err(|_| {
            self.0.forget(answer);
            Stopping
        })
    }

    /// The answer of a request of exactly this device.
    pub(crate) fn find(&self, key: &RequestKey) -> Option<Arc<Answer>> {
        self.0.lock().answers.get(&(key.device, key.request_id)).map(|(_, answer)| Arc::clone(answer))
    }

    /// The device needs it no more.
    pub(crate) fn forget(&self, answer: &Arc<Answer>) {
        self.0.forget(answer);
    }

    /// Ends every running answer of a device whose identity was taken back, and lets the finished ones go.
    pub(crate) fn revoke(&self, device: Uuid) {
        let of_it: Vec<_> = self.0.lock().of(device).map(|(_, answer)| Arc::clone(answer)).collect();
        for answer in of_it {
            answer.cancel(Cancel::SessionEnds);
            if answer.is_over() {
                self.0.forget(&answer);
            }
        }
    }

    /// How long a running answer goes on without a reader.
    pub(crate) fn grace(&self) -> Duration {
        self.0.settings.grace
    }

    /// The gateway stops: running answers have until then, or until an earlier time that was said before or is said later.
    pub(crate) fn stop_by(&self, deadline: Instant) {
        self.0
            .stop_by
            .send_if_modified(|by| by.is_none_or(|by| deadline < by).then(|| *by = Some(deadline)).is_some());
    }

    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.0.memory.taken()
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.0.lock().answers.len()
    }
}

impl House {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Every change is complete when the lock is let go, so a panic elsewhere leaves nothing half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, answer: &Arc<Answer>) {
        let place = (answer.key.device, answer.key.request_id);
        let mut table = self.lock();
        if table.answers.get(&place).is_some_and(|(_, there)| Arc::ptr_eq(there, answer)) {
            table.answers.remove(&place);
        }
        drop(table);
        answer.let_go();
    }

    /// Lets finished answers go until an eighth of the memory is free again, so that this is not for every frame: always
    /// the oldest of the device whose finished answers take the most, so that no device pushes out another's.
    fn make_room(&self) {
        let enough = self.settings.limits.total / 8 * 7;
        let mut finished: HashMap<Uuid, (usize, BinaryHeap<std::cmp::Reverse<Old>>)> = HashMap::new();
        let mut leaving = Vec::new();
        {
            let mut table = self.lock();
            for ((device, _), (entered, answer)) in &table.answers {
                if answer.is_over() {
                    let memory = answer.memory();
                    let (taken, oldest) = finished.entry(*device).or_default();
                    *taken += memory;
                    oldest.push(std::cmp::Reverse(Old {
                        entered: *entered,
                        memory,
                        answer: Arc::clone(answer),
                    }));
                }
            }
            let mut devices: BinaryHeap<(usize, Uuid)> =
                finished.iter().map(|(device, (taken, _))| (*taken, *device)).collect();
            let mut taken = self.memory.taken();
            while taken > enough
                && let Some((of_it, device)) = devices.pop()
            {
                let oldest = finished.get_mut(&device).and_then(|(_, oldest)| oldest.pop());
                let Some(std::cmp::Reverse(oldest)) = oldest else { continue };
                taken = taken.saturating_sub(oldest.memory);
                table.answers.remove(&(device, oldest.answer.key.request_id));
                devices.push((of_it.saturating_sub(oldest.memory), device));
                leaving.push(oldest.answer);
            }
        }
        for answer in leaving {
            tracing::info!(request = %answer.key, "a finished answer makes room; it can no longer be resumed");
            answer.let_go();
        }
    }
}

/// A finished answer, ordered by age.
struct Old {
    entered: u64,
    memory: usize,
    answer: Arc<Answer>,
}

impl PartialEq for Old {
    fn eq(&self, other: &Self) -> bool {
        self.entered == other.entered
    }
}

impl Eq for Old {}

impl PartialOrd for Old {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Old {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.entered.cmp(&other.entered)
    }
}

impl Table {
    fn of(&self, device: Uuid) -> impl Iterator<Item = (u64, &Arc<Answer>)> {
        let (first, last) = ((device, Ulid(0)), (device, Ulid(u128::MAX)));
        self.answers.range(first..=last).map(|(_, (entered, answer))| (*entered, answer))
    }

    fn insert(&mut self, answer: Arc<Answer>) {
        self.entered += 1;
        self.answers.insert((answer.key.device, answer.key.request_id), (self.entered, answer));
    }
}
