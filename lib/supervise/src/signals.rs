//! The signals a service answers to: stop on SIGTERM and SIGINT, reload on SIGHUP.

use std::{fmt, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Which signal asked for the stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM, from the service manager.
    Terminate,
    /// SIGINT, from a terminal.
    Interrupt,
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// Requests to stop. From the moment it listens these signals no longer kill the process, even after it is dropped.
#[derive(Debug)]
pub struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// Begins to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// The handler could not be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Resolves at the next request, including one that came since the last call. Cancel safe.
    pub async fn requested(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }
}

/// Requests to read the configuration again.
#[derive(Debug)]
pub struct Reload {
    hangup: Signal,
}

impl Reload {
    /// Begins to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// The handler could not be installed.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())? })
    }

    /// Resolves at the next request, including one that came since the last call. Cancel safe.
    pub async fn requested(&mut self) {
        self.hangup.recv().await;
    }
}
