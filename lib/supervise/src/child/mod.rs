//! A child process that speaks to us over a socketpair handed to it as its standard input.
//!
//! The child sees our end close and leaves by itself; if it does not, it is asked (SIGTERM) and then made to (SIGKILL).
//! `PR_SET_PDEATHSIG` is not used: it follows the thread that spawned the child, not the process.

mod process;
mod spec;
mod status;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use tokio::{net::UnixStream, sync::watch, task::JoinSet, time::timeout};

use self::process::Process;
pub use self::{spec::ChildSpec, status::ExitStatus};

/// Why a child could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChildError {
    /// No socketpair, or no handle of our own standard error, to give to the child.
    #[error("cannot prepare the channels of {}", program.display())]
    Channels {
        /// The program that was to be started.
        program: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// The program could not be executed.
    #[error("cannot start {}", program.display())]
    Spawn {
        /// The program that was to be started.
        program: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
}

/// A running (or ended, never a zombie) child in a process group of its own. Dropping it kills the whole group.
#[derive(Debug)]
pub struct ChildProcess {
    process: Arc<Process>,
    stream: Option<UnixStream>,
    ended: watch::Receiver<Option<ExitStatus>>,
    /// Exactly one task, which waits for the child so that it does not stay a zombie.
    reaper: JoinSet<()>,
}

impl ChildProcess {
    /// Starts the child. Needs a tokio runtime.
    ///
    /// # Errors
    /// The socketpair could not be made or the program could not be executed.
    pub fn spawn(spec: &ChildSpec) -> Result<Self, ChildError> {
        let failed = |source| ChildError::Channels { program: spec.program.clone(), source };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let stream = UnixStream::from_std(ours).map_err(failed)?;
        let child = spec
            .command(theirs)
            .spawn()
            .map_err(|source| ChildError::Spawn { program: spec.program.clone(), source })?;
        let process = Arc::new(Process::new(&child));
        let (ending, ended) = watch::channel(None);
        let mut reaper = JoinSet::new();
        reaper.spawn(process::reap(child, Arc::clone(&process), ending));
        Ok(Self { process, stream: Some(stream), ended, reaper })
    }

    /// Our end of the socketpair; `None` from the second call on. Drop it to tell the child to leave.
    pub fn take_stream(&mut self) -> Option<UnixStream> {
        self.stream.take()
    }

    /// The child's process id, which is its process group's too.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.ended.borrow().clone()
    }

    /// Resolves when the child has ended and was reaped. Does not borrow, can be called any number of times, before or
    /// after the end, and is cancel safe.
    pub fn wait(&self) -> impl Future<Output = ExitStatus> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            let status = ended.wait_for(Option::is_some).await.ok().and_then(|status| status.clone());
            status.unwrap_or_else(|| ExitStatus::Unknown("nobody waited for it".to_owned()))
        }
    }

    /// Closes our end (unless it was taken), sends SIGTERM, and after `grace` SIGKILL; returns how it ended. A child that
    /// has ended already is left alone.
    pub async fn stop(&mut self, grace: Duration) -> ExitStatus {
        self.stream = None;
        self.process.signal(Signal::SIGTERM);
        if let Ok(status) = timeout(grace, self.wait()).await {
            return status;
        }
        tracing::warn!(pid = self.pid(), ?grace, "the child did not leave in time and is killed");
        self.process.signal(Signal::SIGKILL);
        self.wait().await
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.process.signal(Signal::SIGKILL);
        // The reaper outlives us by the moment the kernel needs, so that no zombie stays; it can't live longer than that.
        self.reaper.detach_all();
    }
}
