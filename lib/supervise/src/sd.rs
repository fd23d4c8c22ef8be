//! The service manager's notification protocol (`sd_notify(3)`): one datagram of `KEY=value` lines per message.

use std::{
    ffi::{OsStr, OsString},
    fmt, io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::Arc,
    time::Duration,
};

/// Tells the service manager how the service is. Does nothing when there is none. Never blocks.
#[derive(Debug, Clone)]
pub struct Notifier {
    target: Option<Arc<Target>>,
    watchdog: Option<Duration>,
}

struct Target {
    socket: UnixDatagram,
    address: SocketAddr,
}

/// Why a message did not reach the service manager.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// `NOTIFY_SOCKET` is neither an absolute path nor an abstract name.
    #[error("NOTIFY_SOCKET={} is neither an absolute path nor an abstract socket name", .0.display())]
    Address(OsString),
    /// The socket could not be made.
    #[error("cannot make a datagram socket")]
    Socket(#[source] io::Error),
    /// The message could not be sent; the manager's queue may be full.
    #[error("cannot send to the service manager")]
    Send(#[source] io::Error),
}

impl Notifier {
    /// The service manager of this process's environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`. Silent
    /// without the first; an address that can't be used is logged, and the notifier is silent.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_vars(|name| std::env::var_os(name)).unwrap_or_else(|error| {
            tracing::warn!(%error, "the service manager will not hear from this process");
            Self::silent()
        })
    }

    /// Like [`from_env`](Self::from_env) with the variables looked up by `var`.
    ///
    /// # Errors
    /// `NOTIFY_SOCKET` is set but is no usable address, or no socket can be made.
    pub fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Result<Self, NotifyError> {
        let Some(name) = var("NOTIFY_SOCKET") else { return Ok(Self::silent()) };
        let address = address(&name)?;
        let socket = UnixDatagram::unbound().map_err(NotifyError::Socket)?;
        socket.set_nonblocking(true).map_err(NotifyError::Socket)?;
        Ok(Self { target: Some(Arc::new(Target { socket, address })), watchdog: watchdog(var) })
    }

    /// A notifier that tells nobody.
    #[must_use]
    pub fn silent() -> Self {
        Self { target: None, watchdog: None }
    }

    /// `READY=1`: the start is over.
    ///
    /// # Errors
    /// The message could not be sent; so for all of these.
    pub fn ready(&self) -> Result<(), NotifyError> {
        self.send("READY=1")
    }

    /// `STATUS=`: one line for a human. Line breaks become spaces, for they would start another variable.
    ///
    /// # Errors
    /// The message could not be sent.
    pub fn status(&self, sentence: &str) -> Result<(), NotifyError> {
        self.send(&format!("STATUS={}", sentence.replace(char::is_control, " ")))
    }

    /// `STOPPING=1`: the stop has begun.
    ///
    /// # Errors
    /// The message could not be sent.
    pub fn stopping(&self) -> Result<(), NotifyError> {
        self.send("STOPPING=1")
    }

    /// `WATCHDOG=1`: still alive.
    ///
    /// # Errors
    /// The message could not be sent.
    pub fn watchdog(&self) -> Result<(), NotifyError> {
        self.send("WATCHDOG=1")
    }

    /// The longest silence the service manager tolerates between two [`watchdog`](Self::watchdog)s; `None`: it does not
    /// watch this process.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog
    }

    fn send(&self, message: &str) -> Result<(), NotifyError> {
        let Some(target) = &self.target else { return Ok(()) };
        // Sent to the address each time, not connected once: the manager may have re-executed itself in between.
        let sent = target.socket.send_to_addr(message.as_bytes(), &target.address);
        sent.map(drop).map_err(NotifyError::Send)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

fn address(name: &OsStr) -> Result<SocketAddr, NotifyError> {
    let made = match name.as_bytes() {
        [b'/', _, ..] => SocketAddr::from_pathname(name),
        [b'@', abstract_name @ ..] if !abstract_name.is_empty() => {
            SocketAddr::from_abstract_name(abstract_name)
        }
        _ => return Err(NotifyError::Address(name.to_owned())),
    };
    made.map_err(|_too_long_or_nul| NotifyError::Address(name.to_owned()))
}

/// `WATCHDOG_USEC`, unless `WATCHDOG_PID` says that it was meant for another process.
fn watchdog(var: impl Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name: &str| var(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
    let meant_for_us = match var("WATCHDOG_PID") {
        None => true,
        Some(_) => number("WATCHDOG_PID") == Some(u64::from(std::process::id())),
    };
    let period = number("WATCHDOG_USEC").filter(|usec| *usec > 0).map(Duration::from_micros);
    period.filter(|_| meant_for_us)
}
