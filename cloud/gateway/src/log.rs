//! The log: where it goes and in which shape. It carries fields, never prompt text, tokens or keys.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{ConfigError, Log, LogFormat};

/// Starts the log. Its text goes to stderr, or straight to the journal.
///
/// # Errors
/// When the level is no filter. A journal that cannot be reached falls back to text and says so.
pub(crate) fn start(log: &Log) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| ConfigError::BadValue {
        key: "log.level".to_owned(),
        what: format!("{:?} is no log filter: {error}", log.level),
        next_step: "write error, warn, info, debug or trace".to_owned(),
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let text = || {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
    };
    let wants_journal = match log.format {
        LogFormat::Journald => true,
        LogFormat::Auto => stderr_is_the_journal(),
        LogFormat::Text | LogFormat::Json => false,
    };
    // `try_init` fails only when a log was started before; the first one stays.
    if log.format == LogFormat::Json {
        let json = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
        let _ = registry.with(json).try_init();
        return Ok(());
    }
    if wants_journal {
        match tracing_journald::layer() {
            Ok(journal) => {
                let _ = registry.with(journal).try_init();
                return Ok(());
            }
            Err(error) => {
                let _ = registry.with(text()).try_init();
                tracing::warn!(%error, "the journal cannot be reached; logging to stderr");
                return Ok(());
            }
        }
    }
    let _ = registry.with(text()).try_init();
    Ok(())
}

/// systemd names the journal's socket in `JOURNAL_STREAM` as `device:inode`; it counts only when stderr is that.
fn stderr_is_the_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(std::io::stderr().as_fd())
        .is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}
