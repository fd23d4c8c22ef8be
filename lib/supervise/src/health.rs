//! The health board: one line per subsystem, newest value to whoever watches.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

/// How one subsystem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Not ready yet, for the first time.
    Starting,
    /// Doing its work.
    Ready,
    /// Working less well than it should, or waiting for its next try; the reason says which.
    Degraded,
    /// Restarting did not help.
    Failed,
    /// Ended on request.
    Stopped,
}

impl State {
    /// The name used in the local API and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One line of the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The subsystem.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// Why it is not ready; empty when it is.
    pub reason: String,
    /// What happens next or what the user can do; empty when it is ready.
    pub next_step: String,
}

/// How the process as a whole is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overall {
    /// Every subsystem is ready.
    Ready,
    /// At least one is not.
    Degraded,
    /// The process is on its way out.
    Stopping,
}

impl Overall {
    /// Sums up a board.
    #[must_use]
    pub fn of(rows: &[Health]) -> Self {
        if rows.iter().any(|row| row.state == State::Stopped) {
            Self::Stopping
        } else if rows.iter().all(|row| row.state == State::Ready) {
            Self::Ready
        } else {
            Self::Degraded
        }
    }

    /// The name used in the local API and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Stopping => "stopping",
        }
    }
}

/// A board in one human sentence, as `systemctl status` shows it.
#[must_use]
pub fn summary(rows: &[Health]) -> String {
    let overall = Overall::of(rows);
    if overall != Overall::Degraded {
        return overall.as_str().to_owned();
    }
    let troubles: Vec<String> = rows
        .iter()
        .filter(|row| row.state != State::Ready)
        .map(|row| match row.reason.as_str() {
            "" => format!("{} is {}", row.name, row.state),
            reason => format!("{} is {} ({reason})", row.name, row.state),
        })
        .collect();
    format!("degraded: {}", troubles.join(", "))
}

/// Where subsystems report and clients look. Clones are handles to the same board.
#[derive(Debug, Clone)]
pub struct HealthBoard {
    rows: Arc<watch::Sender<Vec<Health>>>,
}

impl HealthBoard {
    /// An empty board; the supervisor adds a row per subsystem.
    #[must_use]
    pub fn new() -> Self {
        Self { rows: Arc::new(watch::Sender::new(Vec::new())) }
    }

    /// A receiver of the newest board. It is marked changed only when a line really changed.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Vec<Health>> {
        self.rows.subscribe()
    }

    /// The board as it is now.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Health> {
        self.rows.borrow().clone()
    }

    /// Adds a line and returns its place.
    pub(crate) fn register(&self, name: &'static str) -> usize {
        let mut place = 0;
        self.rows.send_modify(|rows| {
            place = rows.len();
            rows.push(Health {
                name,
                state: State::Starting,
                reason: String::new(),
                next_step: String::new(),
            });
        });
        place
    }

    /// Replaces a line; equal lines wake nobody.
    pub(crate) fn set(&self, place: usize, health: Health) {
        self.rows.send_if_modified(|rows| match rows.get_mut(place) {
            Some(row) if *row != health => {
                *row = health;
                true
            }
            _ => false,
        });
    }
}

impl Default for HealthBoard {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, state: State, reason: &str) -> Health {
        Health { name, state, reason: reason.to_owned(), next_step: String::new() }
    }

    #[test]
    fn the_summary_names_what_is_not_ready_and_why() {
        let mut rows = vec![row("journal", State::Ready, ""), row("ipc", State::Ready, "")];
        assert_eq!((Overall::of(&rows), summary(&rows).as_str()), (Overall::Ready, "ready"));
        rows.push(row("tunnel", State::Degraded, "gateway not reachable"));
        rows.push(row("vitals", State::Starting, ""));
        assert_eq!(
            summary(&rows),
            "degraded: tunnel is degraded (gateway not reachable), vitals is starting"
        );
        rows.push(row("runtime", State::Stopped, ""));
        assert_eq!((Overall::of(&rows), summary(&rows).as_str()), (Overall::Stopping, "stopping"));
    }

    #[test]
    fn a_line_that_did_not_change_wakes_nobody() {
        let board = HealthBoard::new();
        let place = board.register("journal");
        let mut watching = board.subscribe();
        watching.mark_unchanged();
        board.set(place, row("journal", State::Starting, ""));
        assert!(!watching.has_changed().unwrap());
        board.set(place, row("journal", State::Ready, ""));
        assert!(watching.has_changed().unwrap());
        board.set(place + 1, row("nobody", State::Ready, ""));
        assert_eq!(board.snapshot().len(), 1, "a place that was never handed out is ignored");
    }
}
