//! A subsystem made of a closure, and a diary that several of them write into.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use synesis_supervise::{BoxError, Context, HealthBoard, State, Subsystem};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) type Outcome = Result<(), BoxError>;

/// Runs the closure, once per run.
pub(crate) struct Part<F>(pub(crate) F);

#[async_trait]
impl<F, R> Subsystem for Part<F>
where
    F: FnMut(Context) -> R + Send + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    async fn run(&mut self, cx: &Context) -> Outcome {
        (self.0)(cx.clone()).await
    }
}

/// Ready at once, leaves when asked.
pub(crate) async fn well_behaved(cx: Context) -> Outcome {
    cx.ready();
    cx.stopping().cancelled().await;
    Ok(())
}

/// Ready at once, and deaf.
pub(crate) async fn deaf(cx: Context) -> Outcome {
    cx.ready();
    std::future::pending().await
}

/// Writes its start and its end into the diary.
pub(crate) struct Noted {
    diary: Diary,
    name: &'static str,
}

pub(crate) fn noted(diary: &Diary, name: &'static str) -> Noted {
    Noted { diary: diary.clone(), name }
}

#[async_trait]
impl Subsystem for Noted {
    async fn run(&mut self, cx: &Context) -> Outcome {
        self.diary.note(format!("{} starts", self.name));
        let outcome = well_behaved(cx.clone()).await;
        self.diary.note(format!("{} stops", self.name));
        outcome
    }
}

#[derive(Clone, Default)]
pub(crate) struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    pub(crate) fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Resolves when the subsystem's line on the board is in this state; returns its reason and next step.
pub(crate) async fn until(board: &HealthBoard, name: &str, state: State) -> (String, String) {
    let mut board = board.subscribe();
    let rows = board.wait_for(|rows| rows.iter().any(|row| row.name == name && row.state == state)).await;
    let rows = rows.unwrap();
    let row = rows.iter().find(|row| row.name == name).unwrap();
    (row.reason.clone(), row.next_step.clone())
}

pub(crate) fn states(board: &HealthBoard) -> Vec<(&'static str, State)> {
    board.snapshot().iter().map(|row| (row.name, row.state)).collect()
}
