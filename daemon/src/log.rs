//! Where log lines go: text or JSON on stderr, or structured fields straight into journald.

use std::error::Error;
use std::fmt::Write as _;
use std::os::fd::AsFd;

use thiserror::Error;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::config::{Log, LogFormat};

/// The log cannot be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// `SYNESIS_LOG` does not parse.
    #[error("SYNESIS_LOG is \"{value}\", which is no log filter; try \"debug\" or \"info,synesisd=debug\"")]
    Filter {
        /// As set.
        value: String,
        /// The parser's complaint.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// journald was asked for and does not answer.
    #[error(
        "\"log.format\" is \"journald\", but journald's socket cannot be reached; use \"text\" or \"json\""
    )]
    Journald(#[source] std::io::Error),
    /// A log was set up before.
    #[error("the log is already set up")]
    Twice(#[from] TryInitError),
}

/// Sets the process's log up. `overriding` is the value of `SYNESIS_LOG`.
///
/// # Errors
/// A filter that does not parse, or journald asked for and absent.
pub fn init(config: &Log, overriding: Option<&str>) -> Result<(), LogError> {
    let filter = match overriding.filter(|value| !value.is_empty()) {
        Some(value) => EnvFilter::try_new(value)
            .map_err(|source| LogError::Filter { value: value.to_owned(), source })?,
        None => EnvFilter::new(config.level.as_str()),
    };
    let journal_stream = std::env::var("JOURNAL_STREAM").ok();
    let layer = match config.format {
        LogFormat::Auto if is_journal(journal_stream.as_deref(), std::io::stderr()) => {
            // The service manager connected stderr to journald, so text gets there when the socket does not answer.
            tracing_journald::layer().map_or_else(|_| text().boxed(), |layer| layer.boxed())
        }
        LogFormat::Auto | LogFormat::Text => text().boxed(),
        LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).boxed(),
        LogFormat::Journald => tracing_journald::layer().map_err(LogError::Journald)?.boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?;
    Ok(())
}

fn text<S>() -> impl tracing_subscriber::Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let colour =
        std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    fmt::layer().with_writer(std::io::stderr).with_ansi(colour)
}

/// `JOURNAL_STREAM` is `device:inode` of the stream that the service manager connected; it is inherited by
/// processes whose stderr has since gone elsewhere, so it has to match.
fn is_journal(journal_stream: Option<&str>, stream: impl AsFd) -> bool {
    let numbers = journal_stream.and_then(|value| value.split_once(':'));
    let Some((Ok(device), Ok(inode))) =
        numbers.map(|(device, inode)| (device.parse::<u64>(), inode.parse::<u64>()))
    else {
        return false;
    };
    nix::sys::stat::fstat(stream.as_fd()).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (device, inode))
}

/// An error and all its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.ends_with(&part) {
            let _ = write!(text, ": {part}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_stream_counts_only_when_it_is_this_stream() {
        let file = tempfile::tempfile().unwrap();
        let stat = nix::sys::stat::fstat(&file).unwrap();
        let this = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(is_journal(Some(&this), &file));
        for other in [None, Some(""), Some("1"), Some("a:b"), Some("0:0")] {
            assert!(!is_journal(other, &file), "{other:?}");
        }
    }

    #[test]
    fn a_filter_that_does_not_parse_is_named() {
        let error = init(&Log::default(), Some("synesisd=loud")).unwrap_err();
        assert!(error.to_string().contains("\"synesisd=loud\""), "{error}");
    }

    #[test]
    fn a_chain_says_every_cause_once() {
        let error = LogError::Journald(std::io::Error::other("gone"));
        assert!(chain(&error).ends_with("\"json\": gone"));
    }
}
