//! The process behind a child: signals never reach a process id that has been reaped and may belong to someone else.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{process::Child, sync::watch};

use super::ExitStatus;

#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    /// False once it is reaped. Reaping and signalling both happen under this lock.
    exists: Mutex<bool>,
}

impl Process {
    pub(super) fn new(child: &Child) -> Self {
        // tokio forgets the id only when the child has been waited for, which nobody has done yet.
        let pid = child.id();
        Self { pid: pid.unwrap_or_default(), exists: Mutex::new(pid.is_some()) }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends `signal` to the child's process group, unless the child is gone.
    pub(super) fn signal(&self, signal: Signal) {
        let exists = self.exists.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(group) = i32::try_from(self.pid).ok().filter(|_| *exists) else { return };
        match killpg(Pid::from_raw(group), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => tracing::warn!(pid = self.pid, %signal, %error, "cannot signal the child"),
        }
    }
}

/// Waits for the child and publishes how it ended.
pub(super) async fn reap(mut child: Child, process: Arc<Process>, ending: watch::Sender<Option<ExitStatus>>) {
    let mut waiting = pin!(child.wait());
    let waited = poll_fn(|cx| {
        let mut exists = process.exists.lock().unwrap_or_else(PoisonError::into_inner);
        let polled = waiting.as_mut().poll(cx);
        *exists = polled.is_pending();
        polled
    })
    .await;
    let status = ExitStatus::from(waited);
    tracing::debug!(pid = process.pid, %status, "the child ended");
    ending.send_replace(Some(status));
}
