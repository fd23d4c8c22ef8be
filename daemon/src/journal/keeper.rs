//! The journal as a subsystem: it is open before the first request, it says when it takes no more writes, and it is
//! closed after the last one.

use std::path::{Path, PathBuf};

use synesis_store::StoreError;
use synesis_supervise::{BoxError, Context, Subsystem};
use tokio::sync::watch;

use super::{DeviceJournal, JournalError};

/// Keeps the journal.
#[derive(Debug)]
pub struct JournalKeeper {
    journal: DeviceJournal,
    /// What opening it found, to be shown until somebody has looked.
    warning: Option<String>,
    folder: PathBuf,
}

impl JournalKeeper {
    /// Opens the journal in `folder`.
    ///
    /// # Errors
    /// See [`DeviceJournal::open`].
    pub async fn open(folder: &Path) -> Result<(DeviceJournal, Self), JournalError> {
        let (journal, recovery) = DeviceJournal::open(folder).await?;
        let warning = recovery.warning();
        match &warning {
            Some(warning) => tracing::error!(rows = recovery.rows, warning, "the journal is not what it was"),
            None => tracing::info!(rows = recovery.rows, "journal open"),
        }
        Ok((journal.clone(), Self { journal, warning, folder: folder.to_owned() }))
    }

    fn tell(&self, cx: &Context, failures: &mut watch::Receiver<Option<StoreError>>) {
        if let Some(error) = failures.borrow_and_update().as_ref() {
            let next = format!(
                "check the disk under {}, then restart synesisd; local answers go on",
                self.folder.display()
            );
            cx.degraded(format!("the journal takes no writes: {error}"), next);
        } else if let Some(warning) = &self.warning {
            cx.degraded(warning.clone(), "run `synctl billing verify`, and keep the files for support");
        }
    }
}

#[async_trait::async_trait]
impl Subsystem for JournalKeeper {
    async fn run(&mut self, cx: &Context) -> Result<(), BoxError> {
        let mut failures = self.journal.failure();
        cx.ready();
        let stop = cx.stopping();
        loop {
            self.tell(cx, &mut failures);
            tokio::select! {
                changed = failures.changed() => if changed.is_err() { break },
                () = stop.cancelled() => break,
            }
        }
        stop.cancelled().await;
        self.journal.shut().await;
        Ok(())
    }
}
