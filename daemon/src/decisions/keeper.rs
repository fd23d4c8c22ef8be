//! The `decisions` subsystem: the one writer of the log, off the event loop.

use std::io;

use async_trait::async_trait;
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::Entry;
use super::files::{Files, Writer};

/// Lines written at once.
const BATCH: usize = 64;

/// Writes what comes; a disk that does not take it costs the lines, and nothing else.
#[derive(Debug)]
pub struct DecisionKeeper {
    entries: mpsc::Receiver<Entry>,
    files: Files,
}

impl DecisionKeeper {
    pub(super) fn new(entries: mpsc::Receiver<Entry>, files: Files) -> Self {
        Self { entries, files }
    }
}

#[async_trait]
impl Subsystem for DecisionKeeper {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        cx.ready();
        let (stop, mut writer, mut batch) = (cx.stopping(), None, Vec::with_capacity(BATCH));
        // Whether everybody who could decide anything is gone.
        let mut over = false;
        loop {
            tokio::select! {
                biased;
                received = self.entries.recv_many(&mut batch, BATCH), if !over => {
                    over = received == 0;
                    writer = self.write(cx, writer, &mut batch).await;
                }
                // What was decided before the stop is written: nothing is left when this is reached.
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}

impl DecisionKeeper {
    /// Writes a batch, and gives the writer back when it can be used again.
    async fn write(&self, cx: &Context, writer: Option<Writer>, batch: &mut Vec<Entry>) -> Option<Writer> {
        let (mut lines, mut waiting) = (Vec::new(), Vec::new());
        for entry in batch.drain(..) {
            match entry {
                Entry::Record(record) => lines.extend(record.to_line().ok().map(|line| line + "\n")),
                Entry::Written(waits) => waiting.push(waits),
            }
        }
        if lines.is_empty() {
            return writer;
        }
        let files = self.files.clone();
        let written = spawn_blocking(move || -> io::Result<Writer> {
            let mut writer = writer.map_or_else(|| files.writer(), Ok)?;
            writer.write(&lines)?;
            Ok(writer)
        });
        let written = written.await.map_err(io::Error::other).and_then(|written| written);
        // Whoever waits for it may look now.
        drop(waiting);
        match written {
            Ok(writer) => {
                cx.healthy();
                Some(writer)
            }
            Err(error) => {
                tracing::warn!(%error, "routing decisions cannot be recorded");
                cx.degraded(
                    "routing decisions cannot be recorded; prompts are answered all the same",
                    "check the disk below paths.state_dir, or set routing.decisions = 0",
                );
                None
            }
        }
    }
}
