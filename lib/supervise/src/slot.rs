//! The supervisor's record of one subsystem: what it reports, what its keeper knows, and the board line made of both.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::{Fault, Health, HealthBoard, Spec, State, pulse::Pulse};

/// How far the first start has come; the supervisor waits for it to leave `Waiting`.
#[derive(Debug, Clone)]
pub(crate) enum Startup {
    /// Not ready yet; carries what the last run ended with, if one did.
    Waiting(Option<Fault>),
    /// Was ready once.
    Ready,
    /// The start went on without it.
    Abandoned,
}

impl Startup {
    pub(crate) fn is_over(&self) -> bool {
        !matches!(self, Self::Waiting(_))
    }
}

/// A reason and a next step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Note {
    pub(crate) reason: String,
    pub(crate) next_step: String,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) name: &'static str,
    pub(crate) pulse: Pulse,
    pub(crate) startup: watch::Sender<Startup>,
    board: HealthBoard,
    place: usize,
    row: Mutex<Row>,
}

impl Slot {
    pub(crate) fn new(board: &HealthBoard, spec: &Spec) -> Self {
        Self {
            name: spec.name,
            pulse: Pulse::new(spec.tick_within),
            startup: watch::Sender::new(Startup::Waiting(None)),
            board: board.clone(),
            place: board.register(spec.name),
            row: Mutex::new(Row::default()),
        }
    }

    /// A new run begins; reports of earlier runs no longer count. Returns the run's number.
    pub(crate) fn begin_run(&self) -> u64 {
        let mut number = 0;
        self.change(|row| {
            row.run += 1;
            row.ready = false;
            row.complaint = None;
            number = row.run;
        });
        number
    }

    /// Run `run` can do its work. Returns false when that run is over.
    pub(crate) fn ready(&self, run: u64) -> bool {
        let counts = self.change_in(run, |row| {
            row.ready = true;
            row.fault = None;
        });
        if counts {
            self.startup.send_if_modified(|startup| {
                let first = !startup.is_over();
                if first {
                    *startup = Startup::Ready;
                }
                first
            });
        }
        counts
    }

    pub(crate) fn complain(&self, run: u64, complaint: Option<Note>) {
        self.change_in(run, |row| row.complaint = complaint);
    }

    /// A run ended badly, or is late; shown until a run is ready.
    pub(crate) fn fault(&self, state: State, note: Note) {
        self.change(|row| row.fault = Some((state, note)));
    }

    /// The run is late. What an earlier run failed with says more and stays.
    pub(crate) fn late(&self, note: Note) {
        self.change(|row| {
            if !row.ready && row.fault.is_none() {
                row.fault = Some((State::Degraded, note));
            }
        });
    }

    pub(crate) fn stopped(&self, reason: &str) {
        let reason = reason.to_owned();
        self.change(|row| row.stopped = Some(Note { reason, next_step: String::new() }));
    }

    fn change_in(&self, run: u64, change: impl FnOnce(&mut Row)) -> bool {
        let mut counts = false;
        self.change(|row| {
            counts = row.run == run;
            if counts {
                change(row);
            }
        });
        counts
    }

    /// The board is written under the row's lock, so that two writers can't publish in the wrong order.
    fn change(&self, change: impl FnOnce(&mut Row)) {
        let mut row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut row);
        self.board.set(self.place, row.health(self.name));
    }
}

/// Everything the line is made of; the most telling one wins.
#[derive(Debug, Default)]
struct Row {
    run: u64,
    ready: bool,
    complaint: Option<Note>,
    fault: Option<(State, Note)>,
    stopped: Option<Note>,
}

impl Row {
    fn health(&self, name: &'static str) -> Health {
        let (state, note) = if let Some(note) = &self.stopped {
            (State::Stopped, note.clone())
        } else if let Some((state, note)) = &self.fault {
            (*state, note.clone())
        } else if let Some(note) = &self.complaint {
            (State::Degraded, note.clone())
        } else if self.ready {
            (State::Ready, Note::default())
        } else {
            (State::Starting, Note::default())
        };
        Health { name, state, reason: note.reason, next_step: note.next_step }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(reason: &str) -> Note {
        Note { reason: reason.to_owned(), next_step: String::new() }
    }

    #[test]
    fn the_most_telling_report_is_the_one_shown() {
        let board = HealthBoard::new();
        let slot = Slot::new(&board, &Spec::essential("journal"));
        let shown = || board.snapshot().into_iter().map(|row| (row.state, row.reason)).next().unwrap();

        let run = slot.begin_run();
        slot.complain(run, Some(note("slow disk")));
        assert!(slot.ready(run));
        assert_eq!(shown(), (State::Degraded, "slow disk".to_owned()), "ready does not hide a complaint");
        slot.complain(run, None);
        assert_eq!(shown(), (State::Ready, String::new()));
        slot.fault(State::Degraded, note("disk full"));
        let run = slot.begin_run();
        slot.late(note("not ready"));
        assert_eq!(shown(), (State::Degraded, "disk full".to_owned()), "the cause stays while it retries");
        assert!(slot.ready(run));
        slot.late(note("not ready"));
        assert_eq!(shown(), (State::Ready, String::new()));
        slot.stopped("");
        slot.fault(State::Failed, note("too late to matter"));
        assert_eq!(shown(), (State::Stopped, String::new()));
    }

    #[test]
    fn a_report_of_an_earlier_run_is_ignored() {
        let board = HealthBoard::new();
        let slot = Slot::new(&board, &Spec::essential("journal"));
        let first = slot.begin_run();
        let second = slot.begin_run();
        assert!(!slot.ready(first));
        slot.complain(first, Some(note("stale")));
        assert_eq!(board.snapshot()[0].state, State::Starting);
        assert!(!slot.startup.borrow().is_over());
        assert!(slot.ready(second));
        assert!(slot.startup.borrow().is_over());
    }
}
